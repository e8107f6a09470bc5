"""Colour and depth of a scene from one pass, through a camera given by its intrinsics."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from simreal_envs.cameras import Camera
from simreal_envs.errors import MissingDependencyError
from simreal_envs.opengl import NO_OPENGL
from simreal_envs.shifts import LOOKS, EpisodeDraws, Shift, that_override
from simreal_envs.sim.context import may_free, opengl
from simreal_envs.sim.lowpoly import simplified
from simreal_envs.sim.parts import restore, shrink_unseen_textures
from simreal_envs.spec import BASE_IN_WORLD_M

NEAR_M, FAR_M = 0.05, 10.0
MAX_GEOMS = 1000

_KEPT: list[mujoco.MjrContext] = []
"""Keeps objects that cannot be freed: destroying one would free it in whichever context is current."""


class Renderer:
    """Renders a model's ``MjData`` as one camera sees it, under shifts.

    ``quality="fast"``: decimated meshes, no shadows, reflections or multisampling. ``quality="full"``: as
    robosuite renders. Lights and materials are changed on the renderer's own copy of the model.

    Raises:
        MissingDependencyError: there is no OpenGL.
        UsageError: OpenGL was opened before this process was forked.
    """

    _context: mujoco.MjrContext | None = None

    def __init__(
        self,
        model: mujoco.MjModel,
        camera: Camera,
        shifts: Sequence[Shift],
        quality: str = "fast",
        draws: EpisodeDraws = EpisodeDraws(0),  # noqa: B008  it is frozen
    ) -> None:
        self.camera = camera
        fast = quality == "fast"
        self._model = simplified(model) if fast else simplified(model, faces_per_mesh=10**9)
        height, width = camera.size
        self._model.vis.global_.offheight, self._model.vis.global_.offwidth = height, width
        self._original, self._shifts = model, shifts
        self.repaint(draws)
        if fast:
            self._model.vis.quality.offsamples = self._model.vis.quality.shadowsize = 0
            if not any(shift.is_drawn for shift in shifts):  # else another episode may show other textures
                shrink_unseen_textures(self._model)
        with opengl():
            try:
                self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
            except mujoco.FatalError as error:
                raise MissingDependencyError(NO_OPENGL.format(reason=error)) from error
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(self._model, MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = not fast
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = not fast
        self._option = mujoco.MjvOption()
        self._option.geomgroup[0] = 0  # collision shapes
        self._option.sitegroup[:] = 0
        self._free_camera = mujoco.MjvCamera()
        self._rgb = np.empty((height, width, 3), np.uint8)
        self._depth = np.empty((height, width), np.float32)

    def repaint(self, draws: EpisodeDraws) -> None:
        """Lights and materials of another episode."""
        if not that_override("reset_look", self._shifts):
            return
        restore(self._model, self._original, LOOKS)
        for part in ("ambient", "diffuse", "specular"):
            getattr(self._model.vis.headlight, part)[:] = getattr(self._original.vis.headlight, part)
        draws.look(self._model, self._shifts)

    def render(self, data: mujoco.MjData, depth: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour (H, W, 3) uint8 and, if asked for, depth (H, W) float32 metres along the optical axis."""
        mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            None,
            self._free_camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        self._aim()
        with opengl():
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)  # others render too
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._rgb, self._depth if depth else None, self._viewport, self._context)
        rgb = self._rgb[::-1].copy()
        return rgb, (self._metres(self._depth[::-1]) if depth else None)

    def _aim(self) -> None:
        """Give the scene's cameras our pose and an off-centre frustum that is exactly K."""
        (height, width), k = self.camera.size, self.camera.intrinsics
        pose_in_base = self.camera.pose_in_base
        # Borders of the image in units of the focal length; pixel centres are integers.
        left, right = (-0.5 - k[0, 2]) / k[0, 0], (width - 0.5 - k[0, 2]) / k[0, 0]
        top, bottom = (k[1, 2] + 0.5) / k[1, 1], (k[1, 2] - height + 0.5) / k[1, 1]
        for view in self._scene.camera:
            view.pos[:] = pose_in_base[:3, 3] + BASE_IN_WORLD_M
            view.forward[:] = pose_in_base[:3, 2]
            view.up[:] = -pose_in_base[:3, 1]
            view.frustum_near, view.frustum_far = NEAR_M, FAR_M
            view.frustum_center = NEAR_M * (left + right) / 2
            view.frustum_width = NEAR_M * (right - left) / 2
            view.frustum_top, view.frustum_bottom = NEAR_M * top, NEAR_M * bottom

    def _metres(self, buffer: np.ndarray) -> np.ndarray:
        """Undo OpenGL's depth: the buffer holds 0 at the near and 1 at the far plane."""
        return NEAR_M / (1.0 - buffer * np.float32(1.0 - NEAR_M / FAR_M))

    def close(self) -> None:
        """Free the GPU's copy of the model."""
        context, self._context = self._context, None
        if context is None:
            return
        if may_free():
            with opengl():
                context.free()
        else:
            _KEPT.append(context)

    def __del__(self) -> None:
        self.close()
