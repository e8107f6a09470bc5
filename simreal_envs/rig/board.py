"""A ChArUco board on the rig, in the robot's hand or on the table: seen by the camera, touching nothing."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Literal

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs.errors import RobotError
from simreal_envs.latest import Latest
from simreal_envs.poses import pose
from simreal_envs.rig.control import RigControl
from simreal_envs.rig.stereo import FRAMES
from simreal_envs.robot.charuco import Board
from simreal_envs.sim.physics import GRIP_SITE_IN_HAND
from simreal_envs.spec import BASE_IN_WORLD_M, FloatArray

BOARD = Board()
Place = Literal["hand", "table"]
PLACES: tuple[Place, ...] = ("hand", "table")
PIXELS_PER_SQUARE = 128
THICKNESS_M = 0.001
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 30.0

_TILT = np.deg2rad(35.0)
_CENTRE_IN_HAND_M = np.array([0.10, 0.0, 0.0])


def _board_in_hand() -> FloatArray:
    """The board's pose in the hand, tilted towards the camera for a hand that points down."""
    right, down = np.array([0.0, -1.0, 0.0]), np.array([np.cos(_TILT), 0.0, np.sin(_TILT)])
    rotation = np.stack([right, down, np.cross(right, down)], axis=1)
    width, height = BOARD.size_m
    return pose(rotation, _CENTRE_IN_HAND_M - rotation @ (width / 2, height / 2, 0.0))


BOARD_IN_HAND = _board_in_hand()
"""Pose of the board in the end effector's frame; calibrating finds it, too."""

HAND_SHOWS_BOARD = pose(np.diag([1.0, -1.0, -1.0]), [0.57, -0.02, 0.14])
"""Pose of the hand in the base in which the camera sees the board."""


_ON_TABLE_M = np.array([0.55, -0.02, 0.012])
BOARD_ON_TABLE = pose(
    np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
    _ON_TABLE_M - (BOARD.size_m[1] / 2, BOARD.size_m[0] / 2, 0.0),
)
"""Pose in the base of the board that lies on a plate of 12 mm, read by somebody who faces the robot."""


class ShownBoard:
    """The board is in the hand of the rig at ``host``, or on its cleared table, while the context lasts.

    Raises:
        RobotError: the rig has no camera that shows it.
    """

    def __init__(self, host: str, place: Place) -> None:
        self._host = host
        if place == "table":
            _clear_table(host)
        _sign(host).write_text(place)
        try:
            frames = Latest(f"rig-{host}-camera", FRAMES)
            give_up = time.monotonic() + PATIENCE_S
            while frames.read()["board"] != 1 + PLACES.index(place):
                if time.monotonic() > give_up:
                    raise TimeoutError(f"nothing changed within {PATIENCE_S:.0f} s")
                time.sleep(0.05)
        except (FileNotFoundError, TimeoutError) as error:
            self.close()
            raise RobotError(f"No camera of a rig at {host} shows the board: {error}.") from error

    def close(self) -> None:
        """Take the board away again."""
        take_board_away(self._host)

    def __enter__(self) -> ShownBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def board_place(host: str) -> Place | None:
    """Where the board is at present: in the hand, on the table, or nowhere."""
    sign = _sign(host)
    found = sign.read_text() if sign.exists() else ""
    return next((place for place in PLACES if place == found), None)


def take_board_away(host: str) -> None:
    """Take the board away, even if another process put it there."""
    _sign(host).unlink(missing_ok=True)


def _sign(host: str) -> Path:
    """A file that names the place while the board is there."""
    return SHARED_MEMORY / f"simreal-rig-{host}-board"


def _clear_table(host: str) -> None:
    """Put the objects where neither board nor hand will be."""
    with RigControl(host) as control:
        names = sorted(control.object_poses_in_base())
        control.place({name: (-0.1, side, 0.0) for name, side in zip(names, (0.35, -0.35), strict=False)})


def hands_touching_corners(model_xml: str) -> list[FloatArray]:
    """Poses (4, 4) of the hand, pointing down, with its fingertips at the corners of the board on the table.

    In the order of the touches: top left, top right, bottom right, bottom left.
    """
    width, height = BOARD.size_m
    corners = np.array([(0, 0, 0), (width, 0, 0), (width, height, 0), (0, height, 0)])
    in_base = corners @ BOARD_ON_TABLE[:3, :3].T + BOARD_ON_TABLE[:3, 3]
    above = np.array([0.0, 0.0, _fingertips_beyond_end_effector_m(model_xml)])
    return [pose(np.diag([1.0, -1.0, -1.0]), corner + above) for corner in in_base]


def _fingertips_beyond_end_effector_m(model_xml: str) -> float:
    """How far the fingertips are beyond the end effector, measured on the served scene's meshes."""
    model = mujoco.MjModel.from_xml_string(model_xml)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    site, finger = data.site("gripper0_right_grip_site"), data.geom("gripper0_right_finger1_visual")
    mesh = model.mesh(model.geom_dataid[finger.id])
    first = int(mesh.vertadr[0])
    vertices = model.mesh_vert[first : first + int(mesh.vertnum[0])]
    in_world = vertices @ finger.xmat.reshape(3, 3).T + finger.xpos
    return float(((in_world - site.xpos) @ site.xmat.reshape(3, 3)[:, 2]).max())


def model_with_board(model_xml: str, place: Place) -> mujoco.MjModel:
    """The scene with the board welded to hand or table; joints and geoms keep their numbers."""
    spec = mujoco.MjSpec.from_string(model_xml)
    _add_look(spec)
    _add_shape(spec)
    site = spec.site("gripper0_right_grip_site")
    if place == "hand":
        site_in_body = pose(Rotation.from_quat(np.roll(site.quat, -1)).as_matrix(), site.pos)
        body, in_body = site.parent, site_in_body @ pose(GRIP_SITE_IN_HAND.T, np.zeros(3)) @ BOARD_IN_HAND
    else:
        body, in_body = spec.worldbody, pose(np.eye(3), BASE_IN_WORLD_M) @ BOARD_ON_TABLE
    body.add_geom(
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
