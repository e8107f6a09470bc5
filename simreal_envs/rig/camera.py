"""The rig's camera: a process that draws the scene as a D435 would see it, 30 times a second.

The fixed part of the scene is drawn once and kept. For each frame only robot and objects are drawn and
combined with it by depth: the pixels are those of the whole scene, in a quarter of the time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache

import cv2
import mujoco
import numpy as np

from simreal_envs.cameras import Camera
from simreal_envs.errors import RobotError
from simreal_envs.latest import Latest
from simreal_envs.rig.board import PLACES, Place, board_place, model_with_board, take_board_away
from simreal_envs.rig.stereo import (
    FAULTS,
    FPS,
    FRAMES,
    colour_camera,
    depth_camera,
    stereo_depth_mm,
)
from simreal_envs.rig.world import STATE
from simreal_envs.shifts import Shift, parse_shift
from simreal_envs.sim.lowpoly import simplified
from simreal_envs.sim.parts import moving_geoms, without
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.tasks import get_task

NICENESS = 5
"""The arm's 1 kHz loop goes first where cores are few."""
PATIENCE_S = 60.0
"""How long the server, which starts at the same time, may take."""


class StillCamera:
    """Colour and depth of a scene through a camera that does not move."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, camera: Camera, shifts: Sequence[Shift]):
        moving = moving_geoms(model)
        still = Renderer(without(model, moving), camera, shifts)
        colour, depth_m = still.render(data, depth=True)
        still.close()
        assert depth_m is not None
        self._colour, self._depth_m = colour, depth_m
        self._renderer = Renderer(without(model, ~moving), camera, shifts)

    def render(self, data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
        """Colour (H, W, 3) uint8 and depth (H, W) float32 metres along the optical axis."""
        colour, depth_m = self._renderer.render(data, depth=True)
        assert depth_m is not None
        behind = depth_m >= self._depth_m
        cv2.copyTo(self._colour, behind.view(np.uint8), colour)  # a hundred times as fast as NumPy's
        return colour, np.minimum(depth_m, self._depth_m)

    def close(self) -> None:
        """Free the GPU's copy of the model."""
        self._renderer.close()


STOCK = 2**22


@cache
def _stock() -> np.ndarray:
    """Normal noise (STOCK,) float32, drawn once."""
    stock = np.random.default_rng(0).standard_normal(STOCK, dtype=np.float32)
    stock.flags.writeable = False
    return stock


class PooledNoise(np.random.Generator):
    """Normal noise from a stock of numbers: a frame needs a million, too many to draw anew each time."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        super().__init__(np.random.PCG64(seed))

    def standard_normal(self, size: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:  # type: ignore[override]
        """(*size) float32, from a random place in the stock."""
        count = int(np.prod(size))
        start = int(self.integers(STOCK - count))
        return _stock()[start : start + count].reshape(size)


class SceneD435:
    """Renders a task's scene as the rig's D435 measures it: colour, and stereo depth of another sensor."""

    def __init__(self, model: mujoco.MjModel, shift: str, seed: int | None = None) -> None:
        self.camera = colour_camera(shift)
        self._model, self._data = model, mujoco.MjData(model)
        self._shifts = parse_shift(shift)
        self._depth_noise = PooledNoise(np.random.SeedSequence(seed, spawn_key=(0,)))
        of_shifts = [np.random.SeedSequence(seed, spawn_key=(1 + shift.stream,)) for shift in self._shifts]
        self._noise = [PooledNoise(of_shift) for of_shift in of_shifts]
        low = simplified(model)
        mujoco.mj_kinematics(model, self._data)
        mujoco.mj_camlight(model, self._data)
        self._colour = StillCamera(low, self._data, self.camera, self._shifts)
        low.geom_matid[:] = -1  # depth needs no textures, whose upload takes time
        self._depth = StillCamera(low, self._data, depth_camera(self.camera), ())

    def capture(self, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colour (480, 640, 3) uint8 and depth (480, 640) uint16 mm, not aligned, at joint positions."""
        self._data.qpos[:] = qpos[: self._model.nq]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        colour, _ = self._colour.render(self._data)
        for shift, noise in zip(self._shifts, self._noise, strict=True):
            colour = shift.sense_image(colour, noise)
        _, depth_m = self._depth.render(self._data)
        return colour, stereo_depth_mm(depth_m, self._depth_noise.standard_normal(depth_m.shape))

    def close(self) -> None:
        """Free what the GPU holds."""
        self._colour.close()
        self._depth.close()


def run_camera(host: str, task: str, shift: str) -> None:
    """Publish frames of the rig at ``host``, until the process is ended.

    Raises:
        RobotError: the rig's physics published no state.
    """
    os.nice(NICENESS)
    cv2.setNumThreads(1)
    scene = TabletopScene(get_task(task))
    scene.reset()
    model, xml = scene.sim.model._model, str(scene.sim.model.get_xml())
    take_board_away(host)  # left by a program that was killed
    camera = SceneD435(model, shift)
    board: Place | None = None
    state, faults = _wait_for(f"rig-{host}-state", STATE), _wait_for(f"rig-{host}-faults", FAULTS)
    frame = np.zeros((), FRAMES)
    frame["pose_camera_in_base"] = camera.camera.pose_in_base
    with Latest(f"rig-{host}-camera", FRAMES, create=True) as frames:
        deadline = time.monotonic()
        while True:
            if (asked_for := board_place(host)) != board:
                camera.close()
                board = asked_for
                camera = SceneD435(model_with_board(xml, board) if board else model, shift)
            frame["board"] = 1 + PLACES.index(board) if board else 0
            asked = faults.read()
            frame["plugged"] = not asked["camera_unplug"]
            if frame["plugged"] and not asked["camera_stall"]:
                frame["time_s"] = time.monotonic()
                frame["colour"], frame["depth_mm"] = camera.capture(state.read()["qpos"])
                frame["number"] += 1
            frames.write(frame)
            deadline = max(deadline + 1 / FPS, time.monotonic())  # a late frame delays the next ones
            time.sleep(max(0.0, deadline - time.monotonic()))


def _wait_for(name: str, dtype: np.dtype) -> Latest:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Latest(name, dtype)
        except FileNotFoundError as error:
            if time.monotonic() > give_up:
                raise RobotError(
                    f"The rig's server published no {name!r} within {PATIENCE_S:.0f} s."
                ) from error
            time.sleep(0.05)
