"""Rectifying images: warped so that the table appears as another camera would see it."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from simreal_envs.cameras import Camera
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M

HEIGHT_M = 0.02
"""Height of the plane that is warped exactly: about the middle of an object on the table."""


def reference(cameras: Mapping[str, Mapping[str, Camera]]) -> Mapping[str, Camera]:
    """The reference cameras among a policy's cameras by domain: all images are warped to their view."""
    return cameras["source"] if "source" in cameras else cameras["target"]


class Rectifier:
    """Moves every pixel to where the reference camera sees the same point of a plane above the table.

    Two views of a plane differ by a homography (Hartley and Zisserman, "Multiple View Geometry", ch. 13),
    which follows from both calibrations. What is higher than the plane, such as the arm, is displaced.

    Args:
        camera: the camera of the images.
        reference: the camera whose view the images shall have.
    """

    def __init__(self, camera: Camera, reference: Camera) -> None:
        self._size = reference.size
        square = np.array([[x, y, HEIGHT_M] for x, y in ((-0.2, -0.2), (-0.2, 0.2), (0.2, 0.2), (0.2, -0.2))])
        corners = TABLE_CENTRE_IN_BASE_M + square
        seen, wanted = (c.project(corners).astype(np.float32) for c in (camera, reference))
        self._homography = cv2.getPerspectiveTransform(seen, wanted)
        self._is_needed = camera.to_json() != reference.to_json()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(N, H, W, 3) -> (N, H, W, 3); outside of the image its edge is repeated."""
        if not self._is_needed:
            return images
        height, width = self._size
        return np.stack([cv2.warpPerspective(
            image, self._homography, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ) for image in images])  # fmt: skip
