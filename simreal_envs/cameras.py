"""Pinhole cameras in OpenCV's convention: x right, y down, z along the optical axis.

A camera's pose is given in the robot base frame, in metres, as on a calibrated robot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from simreal_envs.poses import pose
from simreal_envs.spec import FloatArray


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: the intrinsics and extrinsics of one image.

    Attributes:
        size: (height, width) in pixels.
        intrinsics: (3, 3) matrix K in pixels; pixel (u, v) = (0, 0) is the centre of the top left pixel.
        pose_in_base: (4, 4) pose of the camera in the base frame.
    """

    size: tuple[int, int]
    intrinsics: FloatArray
    pose_in_base: FloatArray

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Camera:
        """The inverse of :meth:`to_json`."""
        height, width = values["size"]
        pose_in_base = np.array(values["pose_camera_in_base"])
        return cls((height, width), np.array(values["intrinsics"]), pose_in_base)

    def resized(self, size: tuple[int, int]) -> Camera:
        """The camera of an image cropped (centred, to the new aspect ratio) and then scaled to ``size``."""
        height, width = self.size
        scale = max(size[0] / height, size[1] / width)
        crop_height, crop_width = size[0] / scale, size[1] / scale
        k = self.intrinsics.copy()
        # Pixel centres are integers, so image borders lie half a pixel outside.
        k[0, 2] = (k[0, 2] + 0.5 - (width - crop_width) / 2) * scale - 0.5
        k[1, 2] = (k[1, 2] + 0.5 - (height - crop_height) / 2) * scale - 0.5
        k[0, 0] *= scale
        k[1, 1] *= scale
        return Camera(size, k, self.pose_in_base)

    def moved(self, pose_in_base: FloatArray) -> Camera:
        """The same camera at another pose."""
        return Camera(self.size, self.intrinsics, pose_in_base)

    def project(self, points_in_base: FloatArray) -> FloatArray:
        """Pixels (N, 2) as (u, v) of points (N, 3) in metres, base frame."""
        rotation, position = self.pose_in_base[:3, :3], self.pose_in_base[:3, 3]
        points_in_camera = (np.asarray(points_in_base) - position) @ rotation
        homogeneous = points_in_camera @ self.intrinsics.T
        return homogeneous[:, :2] / homogeneous[:, 2:]

    def deproject(self, depth_m: FloatArray) -> FloatArray:
        """Points (H, W, 3) in metres, base frame, of a depth image (H, W) along the optical axis."""
        height, width = self.size
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        k = self.intrinsics
        rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u, float)], axis=-1)
        points_in_camera = rays * np.asarray(depth_m)[..., None]
        return points_in_camera @ self.pose_in_base[:3, :3].T + self.pose_in_base[:3, 3]

    def shows(self, centres_in_base: FloatArray, radii_m: FloatArray) -> NDArray[np.bool_]:
        """Whether any of each ball (N,) is within the image; what stands in front of it is not looked at.

        Args:
            centres_in_base: (N, 3) metres.
            radii_m: (N,).
        """
        ahead_m = (centres_in_base - self.pose_in_base[:3, 3]) @ self.pose_in_base[:3, 2]
        is_ahead = ahead_m > radii_m
        somewhere = self.pose_in_base[:3, 3] + self.pose_in_base[:3, 2]
        pixels = self.project(np.where(is_ahead[:, None], centres_in_base, somewhere))
        focal_px = max(self.intrinsics[0, 0], self.intrinsics[1, 1])
        radius_px = radii_m / np.where(is_ahead, ahead_m, 1.0) * focal_px
        last_px = np.array(self.size[::-1]) - 0.5
        inside = (pixels > -0.5 - radius_px[:, None]) & (pixels < last_px + radius_px[:, None])
        return is_ahead & inside.all(axis=1)

    def to_json(self) -> dict[str, Any]:
        """JSON-able description, recorded with every episode."""
        return {
            "size": list(self.size),
            "intrinsics": self.intrinsics.tolist(),
            "pose_camera_in_base": self.pose_in_base.tolist(),
        }


@dataclass(frozen=True)
class CameraSpec:
    """A camera, and what it is mounted on.

    Attributes:
        name: the beginning of the keys of its images, such as ``agentview``.
        mount: ``base`` for a camera that stands still, ``hand`` for one that moves with the hand.
        size: (height, width) in pixels.
        intrinsics: (3, 3) matrix K in pixels.
        pose_in_mount: (4, 4) pose of the camera in the base frame, or in that of the end effector.
    """

    name: str
    mount: Literal["base", "hand"]
    size: tuple[int, int]
    intrinsics: FloatArray
    pose_in_mount: FloatArray

    @classmethod
    def fixed(cls, name: str, camera: Camera) -> CameraSpec:
        """A camera that stands still."""
        return cls(name, "base", camera.size, camera.intrinsics, camera.pose_in_base)

    def at(self, hand_in_base: FloatArray) -> Camera:
        """The camera, while the end effector has this pose (4, 4) in the base frame."""
        pose_in_base = self.pose_in_mount if self.mount == "base" else hand_in_base @ self.pose_in_mount
        return Camera(self.size, self.intrinsics, pose_in_base)

    def resized(self, size: tuple[int, int]) -> CameraSpec:
        """See :meth:`Camera.resized`."""
        camera = Camera(self.size, self.intrinsics, self.pose_in_mount).resized(size)
        return replace(self, size=camera.size, intrinsics=camera.intrinsics)

    def moved(self, pose_in_mount: FloatArray) -> CameraSpec:
        """The same camera elsewhere on its mount."""
        return replace(self, pose_in_mount=pose_in_mount)

    def to_json(self) -> dict[str, Any]:
        """JSON-able description, recorded with every episode."""
        return {
            "size": list(self.size),
            "intrinsics": self.intrinsics.tolist(),
            f"pose_camera_in_{self.mount}": self.pose_in_mount.tolist(),
        }

    @classmethod
    def from_json(cls, name: str, values: dict[str, Any]) -> CameraSpec:
        """The inverse of :meth:`to_json`."""
        mount: Literal["base", "hand"] = "hand" if "pose_camera_in_hand" in values else "base"
        height, width = values["size"]
        pose_in_mount = np.array(values[f"pose_camera_in_{mount}"])
        return cls(name, mount, (height, width), np.array(values["intrinsics"]), pose_in_mount)


def between(start: FloatArray, end: FloatArray, fraction: float) -> FloatArray:
    """The pose a fraction of the way along, position linear and rotation on the geodesic.

    A fraction above 1 goes on beyond ``end``.
    """
    rotvec = Rotation.from_matrix(start[:3, :3].T @ end[:3, :3]).as_rotvec()
    rotation = start[:3, :3] @ Rotation.from_rotvec(fraction * rotvec).as_matrix()
    return pose(rotation, start[:3, 3] + fraction * (end[:3, 3] - start[:3, 3]))


THIRD_PERSON = Camera(
    size=(480, 640),
    intrinsics=np.array([[608.75, 0.0, 314.98], [0.0, 608.88, 249.30], [0.0, 0.0, 1.0]]),
    pose_in_base=pose(
        Rotation.from_matrix(  # which makes the rounded numbers a rotation again
            [[0.07496, 0.81140, -0.57967], [0.99693, -0.04772, 0.06212], [0.02275, -0.58254, -0.81249]]
        ).as_matrix(),
        np.array([0.92794, -0.04752, 0.42514]),
    ),
)
"""The calibrated third-person RealSense D435 of the method's authors, colour stream."""

OTHER_VIEWPOINT_IN_BASE = pose(
    Rotation.from_euler("xyz", [-2.519, 0.0, 1.9]).as_matrix(), np.array([0.87, 0.13, 0.42])
)
"""Pose of the ``viewpoint`` shift: 23.2 degrees and 0.187 m from the default."""

TEASER_VIEWPOINT_IN_BASE = pose(
    Rotation.from_euler("xyz", [-2.35, 0.0, 1.57]).as_matrix(), np.array([0.92, 0.0, 0.54])
)
"""Pose of the ``viewpoint-teaser`` shift: 10.7 degrees and 0.125 m from the default."""

_WRIST_TILT_RAD = np.deg2rad(8.0)

WRIST = CameraSpec(
    "wrist",
    "hand",
    THIRD_PERSON.size,
    THIRD_PERSON.intrinsics,
    pose(
        np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # image downwards is towards the hand
        @ Rotation.from_euler("x", -_WRIST_TILT_RAD).as_matrix(),
        np.array([0.06, 0.0, -0.13]),
    ),
)
"""A D435 in front of the hand, 13 cm above the fingertips, tilted so that they show at the lower border."""

CAMERA_SPECS = {"agentview": CameraSpec.fixed("agentview", THIRD_PERSON), "wrist": WRIST}
"""The cameras that a world may have, by name."""
