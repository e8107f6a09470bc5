"""What the cameras see: frusta with their images, images in the panel, and the point cloud."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import viser
from scipy.spatial.transform import Rotation

from simreal_envs.cameras import Camera
from simreal_envs.features import POINT_COLOUR_KEY, POINTS_KEY, image_key
from simreal_envs.spec import FloatArray, Observation

FRUSTUM_M = 0.06
POINT_M = 0.004
ONE_COLOUR = (60, 110, 200)
"""Of a cloud that was recorded without colours."""


class Sights:
    """Shows one moment after another: every camera's image, and the cloud."""

    def __init__(self, server: viser.ViserServer) -> None:
        self._server = server
        self._frusta: dict[str, viser.CameraFrustumHandle] = {}
        self._folder = server.gui.add_folder("Images")
        self._pictures: dict[str, viser.GuiImageHandle] = {}
        self._cloud: viser.PointCloudHandle | None = None

    def show(self, cameras: Mapping[str, Camera], observation: Observation) -> None:
        """Show an observation of one moment, seen by these cameras."""
        for name in [name for name in self._frusta if name not in cameras]:
            self._frusta.pop(name).remove()
        for name, camera in cameras.items():
            self._show_camera(name, camera, observation.get(image_key(name)))
        self._show_cloud(observation.get(POINTS_KEY), observation.get(POINT_COLOUR_KEY))

    def show_pictures(self, images: Mapping[str, np.ndarray]) -> None:
        """Show images (H, W, 3) in the panel, each under its name."""
        for name in [name for name in self._pictures if name not in images]:
            self._pictures.pop(name).remove()
        for name, image in images.items():
            if name in self._pictures:
                self._pictures[name].image = image
            else:
                with self._folder:
                    self._pictures[name] = self._server.gui.add_image(image, label=name, jpeg_quality=90)

    def _show_camera(self, name: str, camera: Camera, image: np.ndarray | None) -> None:
        wxyz = Rotation.from_matrix(camera.pose_in_base[:3, :3]).as_quat(scalar_first=True)
        position = camera.pose_in_base[:3, 3]
        if name not in self._frusta:
            height, width = camera.size
            self._frusta[name] = self._server.scene.add_camera_frustum(
                f"/cameras/{name}",
                fov=float(2 * np.arctan(height / 2 / camera.intrinsics[1, 1])),
                aspect=width / height,
                scale=FRUSTUM_M,
                thickness=0.002,
                color=(40, 40, 40),
                image=image,
                jpeg_quality=85,
                wxyz=wxyz,
                position=position,
                cast_shadow=False,
                receive_shadow=False,
            )
            self._server.scene.add_label(f"/cameras/{name}/label", name, font_screen_scale=1.0)
            return
        frustum = self._frusta[name]
        if image is not None:
            frustum.image = image
        if not np.allclose(frustum.position, position, rtol=0, atol=1e-9):
            frustum.wxyz, frustum.position = wxyz, position

    def _show_cloud(self, points_in_base: FloatArray | None, colours: np.ndarray | None) -> None:
        if points_in_base is None:
            if self._cloud is not None:
                self._cloud.remove()
                self._cloud = None
            return
        shown = np.asarray(points_in_base, np.float32), ONE_COLOUR if colours is None else colours
        if self._cloud is None:
            self._cloud = self._server.scene.add_point_cloud(
                "/cloud/points", *shown, point_size=POINT_M, point_shape="circle", precision="float32"
            )
        else:
            self._cloud.points, self._cloud.colors = shown[0], np.asarray(shown[1], np.uint8)
