r"""Where a camera stands, from views of a board that the robot moves (or that lies at a known place).

With the camera C fixed to the base B, and the board D fixed to the hand H, each view i says

.. math:: T_{BH_i} \, T_{HD} = T_{BC} \, T_{CD_i}

Park and Martin's closed form (OpenCV's ``CALIB_HAND_EYE_PARK``) starts a least-squares search over both
unknown poses for the smallest reprojection error of all corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from simreal_envs.errors import DataError
from simreal_envs.poses import pose
from simreal_envs.robot.charuco import Board, View
from simreal_envs.spec import FloatArray

MIN_VIEWS = 8
MIN_ROTATION_RAD = np.deg2rad(15.0)
"""The hand's orientations must spread so far about two axes: less leaves the camera's position open."""
MAX_REPROJECTION_PX = 1.0
MAX_SCALE_ERROR = 0.01
"""Of the board, which moves the camera by 3 mm at half a metre."""
MAX_POSITION_STD_M = 0.003
MAX_ROTATION_STD_RAD = np.deg2rad(0.3)


@dataclass(frozen=True)
class HeldView:
    """One view of the board in the hand.

    Attributes:
        hand_in_base: (4, 4) pose of the end effector.
        view: what the camera saw.
    """

    hand_in_base: FloatArray
    view: View


@dataclass(frozen=True)
class Fit:
    """A camera's pose and how well it explains the views.

    Attributes:
        camera_in_base: (4, 4).
        reprojection_rms_px: root mean square distance over all corners.
        position_std_m, rotation_std_rad: of the camera's pose, from the residuals.
        views: how many.
    """

    camera_in_base: FloatArray
    reprojection_rms_px: float
    position_std_m: float
    rotation_std_rad: float
    views: int


def fit_held_board(views: Sequence[HeldView], board: Board, intrinsics: FloatArray) -> Fit:
    """The camera's pose from views of a board in the hand.

    Raises:
        DataError: too few views, too little rotation between them, or a fit that is not good enough; says
            which, the limit, and what to do.
    """
    _require_spread(views)
    in_camera = [board_in_camera(v.view, board, intrinsics) for v in views]
    base_in_hand = [np.linalg.inv(v.hand_in_base) for v in views]
    rotation, position = cv2.calibrateHandEye(
        [t[:3, :3] for t in base_in_hand],
        [t[:3, 3] for t in base_in_hand],
        [t[:3, :3] for t in in_camera],
        [t[:3, 3] for t in in_camera],
        method=cv2.CALIB_HAND_EYE_PARK,
    )
    camera = pose(rotation, position.ravel())
    held = np.linalg.inv(views[0].hand_in_base) @ camera @ in_camera[0]

    def errors(poses: Sequence[FloatArray], scale: float = 1.0) -> FloatArray:
        """Pixels (N, 2) by which corners are off, given camera in base, board in hand, and its scale."""
        base_in_camera = np.linalg.inv(poses[0])
        off = []
        for v in views:
            board_in_camera = base_in_camera @ v.hand_in_base @ poses[1]
            off.append(_project(board_in_camera, board, v.view, intrinsics, scale) - v.view.pixels)
        return np.concatenate(off)

    _require_scale(errors, [camera, held], board)
    return _refine(errors, [camera, held], len(views))


def fit_fixed_board(
    views: Sequence[View], board: Board, board_in_base: FloatArray, intrinsics: FloatArray
) -> Fit:
    """The camera's pose from views of a board that lies at a known place.

    The fit is only as good as ``board_in_base`` (4, 4): an error there does not show in the residuals.

    Raises:
        DataError: no view, or a fit that is not good enough.
    """
    if not views:
        raise DataError("The board was not seen; light it evenly and let nothing cover it.")
    camera = board_in_base @ np.linalg.inv(board_in_camera(views[0], board, intrinsics))

    def errors(poses: Sequence[FloatArray]) -> FloatArray:
        in_camera = np.linalg.inv(poses[0]) @ board_in_base
        return np.concatenate([_project(in_camera, board, v, intrinsics) - v.pixels for v in views])

    return _refine(errors, [camera], len(views))


def board_in_camera(view: View, board: Board, intrinsics: FloatArray) -> FloatArray:
    """Pose (4, 4) of the board in the camera's frame, from one view."""
    found, rotvec, position = cv2.solvePnP(
        board.corners_m[view.ids], view.pixels, intrinsics, np.zeros(5), flags=cv2.SOLVEPNP_IPPE
    )
    if not found:
        raise DataError("A view of the board has no solution: are all its corners on one line?")
    return pose(Rotation.from_rotvec(rotvec.ravel()).as_matrix(), position.ravel())


def _project(
    board_in_camera: FloatArray, board: Board, view: View, intrinsics: FloatArray, scale: float = 1.0
) -> FloatArray:
    points = scale * board.corners_m[view.ids] @ board_in_camera[:3, :3].T + board_in_camera[:3, 3]
    pixels = points @ intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def _require_spread(views: Sequence[HeldView]) -> None:
    if len(views) < MIN_VIEWS:
        raise DataError(f"Only {len(views)} views of the board; {MIN_VIEWS} at least are needed. Add views.")
    mean = Rotation.from_matrix([v.hand_in_base[:3, :3] for v in views]).mean()
    turns = [(mean.inv() * Rotation.from_matrix(v.hand_in_base[:3, :3])).as_rotvec() for v in views]
    # Root mean square angles about the principal axes, largest first.
    spread = np.linalg.svd(np.array(turns), compute_uv=False) / np.sqrt(len(views))
    if spread[1] < MIN_ROTATION_RAD / 2:
        raise DataError(
            f"The hand turned too little between views: {np.rad2deg(2 * spread[1]):.0f} degrees about its "
            f"second axis, {np.rad2deg(MIN_ROTATION_RAD):.0f} needed. Tilt the board more, and differently."
        )


def _require_scale(
    errors: Callable[[Sequence[FloatArray], float], FloatArray], start: Sequence[FloatArray], board: Board
) -> None:
    """Check the board's scale: its squares must be as long by the arm's motion as by the ruler."""
    steps = np.zeros(6 * len(start) + 1)
    found = least_squares(
        lambda x: errors(_moved(start, x[:-1]), float(np.exp(x[-1]))).ravel(), steps, method="lm"
    )
    scale = float(np.exp(found.x[-1]))
    if abs(scale - 1) > MAX_SCALE_ERROR:
        raise DataError(
            f"By the arm's motion a square of the board is {1000 * scale * board.square_m:.2f} mm long, not "
            f"{1000 * board.square_m:.2f} mm. Measure a printed square and pass it as --square."
        )


def _moved(poses: Sequence[FloatArray], steps: FloatArray) -> list[FloatArray]:
    """Each pose moved by a rotation vector and a translation in its own frame."""
    return [
        t @ pose(Rotation.from_rotvec(step[:3]).as_matrix(), step[3:])
        for t, step in zip(poses, steps.reshape(-1, 6), strict=True)
    ]


def _refine(
    errors: Callable[[Sequence[FloatArray]], FloatArray],
    start: Sequence[FloatArray],
    views: int,
) -> Fit:
    """Least squares over the poses, from ``start`` on."""
    found = least_squares(
        lambda steps: errors(_moved(start, steps)).ravel(), np.zeros(6 * len(start)), method="lm"
    )
    poses = _moved(start, found.x)
    squares = float(found.fun @ found.fun)
    variance = squares / (found.fun.size - found.x.size)
    covariance = variance * np.linalg.inv(found.jac.T @ found.jac)
    fit = Fit(
        camera_in_base=poses[0],
        reprojection_rms_px=float(np.sqrt(2 * squares / found.fun.size)),
        position_std_m=float(np.sqrt(np.trace(covariance[3:6, 3:6]))),
        rotation_std_rad=float(np.sqrt(np.trace(covariance[:3, :3]))),
        views=views,
    )
    _require_good(fit)
    return fit


def _require_good(fit: Fit) -> None:
    for what, value, limit, remedy in (
        (
            "The corners are {value:.2f} pixels off (rms); {limit:.1f} at most is allowed",
            fit.reprojection_rms_px,
            MAX_REPROJECTION_PX,
            "Is the board flat and held firmly? Did anything move meanwhile?",
        ),
        (
            "The camera's position is uncertain by {value:.4f} m; {limit:.3f} m at most is allowed",
            fit.position_std_m,
            MAX_POSITION_STD_M,
            "Add views, with more tilt and over more of the image.",
        ),
        (
            "The camera's orientation is uncertain by {value:.4f} rad; {limit:.4f} rad at most is allowed",
            fit.rotation_std_rad,
            MAX_ROTATION_STD_RAD,
            "Add views, with more tilt and over more of the image.",
        ),
    ):
        if value > limit:
            raise DataError(f"{what.format(value=value, limit=limit)}. {remedy}")
