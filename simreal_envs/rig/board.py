"""A ChArUco board in the hand of the rig's robot: seen by the camera, without mass, touching nothing."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import RobotError
from simreal_envs.latest import Latest
from simreal_envs.poses import pose
from simreal_envs.rig.stereo import FRAMES
from simreal_envs.robot.charuco import Board
from simreal_envs.sim.physics import GRIP_SITE_IN_HAND
from simreal_envs.spec import FloatArray

BOARD = Board()
PIXELS_PER_SQUARE = 128
THICKNESS_M = 0.001
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 30.0

_TILT = np.deg2rad(35.0)
_CENTRE_IN_HAND_M = np.array([0.10, 0.0, 0.0])


def _board_in_hand() -> FloatArray:
    """Tilted so that the camera in front of the robot sees it when the hand points down."""
    right, down = np.array([0.0, -1.0, 0.0]), np.array([np.cos(_TILT), 0.0, np.sin(_TILT)])
    rotation = np.stack([right, down, np.cross(right, down)], axis=1)
    width, height = BOARD.size_m
    return pose(rotation, _CENTRE_IN_HAND_M - rotation @ (width / 2, height / 2, 0.0))


BOARD_IN_HAND = _board_in_hand()
"""Pose of the board in the end effector's frame; calibrating finds it, too."""

HAND_SHOWS_BOARD = pose(np.diag([1.0, -1.0, -1.0]), [0.57, -0.02, 0.14])
"""Pose of the hand in the base in which the camera sees the board."""


class HeldBoard:
    """The board is in the hand of the rig at ``host`` while the context lasts.

    Raises:
        RobotError: the rig has no camera that shows it.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        _sign(host).touch()
        try:
            frames = Latest(f"rig-{host}-camera", FRAMES)
            give_up = time.monotonic() + PATIENCE_S
            while not frames.read()["board_held"]:
                if time.monotonic() > give_up:
                    raise TimeoutError(f"nothing changed within {PATIENCE_S:.0f} s")
                time.sleep(0.05)
        except (FileNotFoundError, TimeoutError) as error:
            self.close()
            raise RobotError(f"No camera of a rig at {host} shows the board: {error}.") from error

    def close(self) -> None:
        """Take it out again."""
        take_out_board(self._host)

    def __enter__(self) -> HeldBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_board_held(host: str) -> bool:
    """Whether somebody put the board into the hand."""
    return _sign(host).exists()


def take_out_board(host: str) -> None:
    """Whoever put it there."""
    _sign(host).unlink(missing_ok=True)


def _sign(host: str) -> Path:
    """A file that is there while the board is held."""
    return SHARED_MEMORY / f"simreal-rig-{host}-board"


def model_with_board(model_xml: str) -> mujoco.MjModel:
    """The scene with the board welded to the hand; joints and geoms keep their numbers."""
    spec = mujoco.MjSpec.from_string(model_xml)
    _add_look(spec)
    _add_shape(spec)
    site = spec.site("gripper0_right_grip_site")
    site_in_body = pose(Rotation.from_quat(np.roll(site.quat, -1)).as_matrix(), site.pos)
    in_body = site_in_body @ pose(GRIP_SITE_IN_HAND.T, np.zeros(3)) @ BOARD_IN_HAND
    site.parent.add_geom(
        name="board",
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname="board",
        material="board",
        pos=in_body[:3, 3],
        quat=np.roll(Rotation.from_matrix(in_body[:3, :3]).as_quat(), 1),
        group=1,
        contype=0,
        conaffinity=0,
        mass=0.0,
    )
    return spec.compile()


def _add_look(spec: mujoco.MjSpec) -> None:
    """A material that shows the board's picture."""
    picture = np.repeat(BOARD.draw(PIXELS_PER_SQUARE)[..., None], 3, axis=2)
    height, width, channels = picture.shape
    texture = spec.add_texture(
        name="board", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=channels
    )
    texture.data = picture.tobytes()
    material = spec.add_material(name="board", specular=0.0, shininess=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "board"


def _add_shape(spec: mujoco.MjSpec) -> None:
    """A front and a back, each of two triangles, with the picture from edge to edge."""
    width, height = BOARD.size_m
    front = [(0.0, 0.0, 0.0), (width, 0.0, 0.0), (width, height, 0.0), (0.0, height, 0.0)]
    back = [(x, y, THICKNESS_M) for x, y, _ in front]
    spec.add_mesh(
        name="board",
        uservert=np.array(front + back).ravel(),
        usertexcoord=np.array([(0, 0), (1, 0), (1, 1), (0, 1)] * 2, np.float64).ravel(),
        userface=np.array([(0, 3, 2), (0, 2, 1), (4, 5, 6), (4, 6, 7)]).ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
