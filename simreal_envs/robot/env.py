"""The real world behind the contract of ``spec.py``: a Franka Panda and a third-person RealSense D435.

The virtual rig is the same class: only the camera's context and the table's :class:`Scene` differ.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from simreal_envs import spec
from simreal_envs.cameras import Camera, CameraSpec
from simreal_envs.cleanup import do_after
from simreal_envs.errors import DataError, RobotError, UsageError
from simreal_envs.features import (
    DEFAULT_CAMERAS,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_POINTS,
    History,
    ObservationSpec,
    WorldSpec,
    depth_key,
    image_key,
)
from simreal_envs.pointcloud import VIEW_SIZE, View, shown
from simreal_envs.poses import pose_from_action, quaternion_xyzw
from simreal_envs.robot.arm import Arm, ArmState
from simreal_envs.robot.backends import Backend
from simreal_envs.robot.frame import Frame
from simreal_envs.robot.images import fit_colour, fit_depth, mark_old
from simreal_envs.robot.pace import Pace
from simreal_envs.robot.safety import Limits, load_limits
from simreal_envs.shifts import EpisodeDraws
from simreal_envs.spec import FloatArray
from simreal_envs.stack import Ledger
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import draw_start
from simreal_envs.tasks.progress import Progress
from simreal_envs.tasks.staged import SPARSE, STAGED, StagedReward, check_reward, share_done
from simreal_envs.tasks.starts import Placement

log = logging.getLogger("simreal.robot")

MOVES = "Is the way free? The arm opens its hand, rises and moves to its start."
HOMES = "The hand was switched on anew, so its fingers will close and open first, to find their range."
RAISE_M = 0.10
"""How far the hand rises at the beginning of a reset, away from what it may hold or touch."""
ATTEMPTS = 2
"""Resets where nobody can be asked: a hand that was pressing on something may stop the first one."""
CAMERA_LATENCY_S = 0.15
"""From light to a frame in our hands, at most."""
FRAME_TIMEOUT_S = 5.0
"""How long a reset waits for a fresh image."""


class RobotEnv(gym.Env[dict[str, Any], np.ndarray]):
    """A task on the robot. Made by ``gym.make("simreal/Lift-v0", env="real", host="172.16.0.2")``.

    Args:
        task: name of the task.
        backend: the hardware or the virtual rig, which gives robot, camera and table.
        obs: observation groups; ``state`` only where object poses are known (the rig).
        image_size: (height, width) in pixels; cropped and scaled from the camera's 480 x 640.
        cameras: ``agentview``, the one camera there is.
        points: of a point cloud, made of the camera's depth.
        history: moments in one observation, the oldest first.
        region: where objects start: ``in``, ``ood`` or ``all``.
        limits: file of safety limits; None takes the package's ``limits.yaml``.
        actions: ``pose`` (Cartesian impedance) or ``joint`` (joint impedance; the elbow goes along, too).
        render_mode: ``rgb_array`` for :meth:`render`, the camera's own image.
        reward: ``sparse``, 1 on success and else 0; on the rig also ``staged``, see
            :mod:`simreal_envs.tasks.staged`.

    ``reset`` opens the hand, raises it, moves to the start joints and has the objects placed; on hardware it
    asks first, and again when something went wrong. The arm is controlled from the first step on, until
    :meth:`stop`, success, a fault or the watchdog.

    A fault (reflex, user stop, lost link, old image, a limit) ends the episode: the step returns
    ``truncated=True`` and ``info["interrupted"]`` names the cause; the next ``reset`` recovers.

    Raises:
        UsageError: an argument is not one of the valid ones.
        RobotError: robot or camera cannot be reached; names the cause.
        MissingDependencyError: the extra ``real`` is not installed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": spec.CONTROL_HZ}
    real_time = True
    """Whether time passes by itself between steps."""

    def __init__(
        self,
        task: str,
        backend: Backend,
        obs: str = "image",
        image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE,
        cameras: str | Sequence[str] = DEFAULT_CAMERAS,
        points: int = DEFAULT_POINTS,
        history: int = 1,
        region: str = "all",
        limits: Path | str | None = None,
        render_mode: str | None = None,
        actions: str = "pose",
        reward: str = SPARSE,
    ) -> None:
        self.task = get_task(task)
        self.observation_spec = ObservationSpec.parse(obs, image_size, cameras, points, history)
        self.region = spec.check_choice("region", region, spec.REGIONS)
        self.render_mode = spec.check_render_mode(render_mode)
        self._reward = check_reward(reward, self.task, backend.knows_objects)
        self.action_kind = spec.check_choice("actions", actions, ("pose", "joint"))
        features = self.observation_spec.features(len(self.task.objects))
        self.world_spec = WorldSpec(self.task.name, self.action_kind, features, self.observation_spec.history)
        self.observation_space = self.world_spec.space
        self.action_space = spec.action_space(self.action_kind)
        self.ledger = Ledger()
        self.limits: Limits = load_limits(limits)
        self._backend = backend
        if "state" in self.observation_spec.groups and not backend.knows_objects:
            raise UsageError(
                "Unknown observation 'state' for env 'real'. Valid: image, depth, pointcloud, pointcolour."
            )
        if self.observation_spec.cameras != DEFAULT_CAMERAS:
            raise UsageError(
                f"Env {backend.name!r} has one camera, agentview; cameras are "
                f"{'+'.join(self.observation_spec.cameras)}."
            )
        needs_depth = "depth" in self.observation_spec.groups or self.observation_spec.sees_points
        with ExitStack() as stack:  # what was opened is closed again if the rest cannot be
            stack.enter_context(backend)
            self._camera = backend.open_camera(depth=needs_depth)
            stack.callback(self._camera.close)
            calibrated = CameraSpec.fixed("agentview", backend.calibrated(self._camera))
            self.cameras = {"agentview": calibrated.resized(self.observation_spec.image_size)}
            self._view = calibrated.resized(VIEW_SIZE)
            self.scene = backend.open_scene(self.task, self._look)
            self.arm = Arm(backend.host, self.limits)
            stack.callback(self.arm.close)
            self._open = stack.pop_all()
        self._history = History(self.observation_spec.history)
        self._pace = Pace()
        self._progress = Progress(self.task.stages)
        self._interrupted = ""
        self._controlled = self._guided = False
        self._late_s = 0.0
        self._clouds = 0
        self._placement_region = region

    # --- Gymnasium --------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        joints_rad, placement = draw_start(self.task, self.region, self.np_random, options)
        self.stop()
        frame = self._prepare(joints_rad, placement)
        self._placement_region = self.task.region_of(placement)
        self._progress = Progress(self.task.stages)
        self._late_s = 0.0
        self.arm.events()  # those of the reset are no part of the episode
        state = self.arm.state()
        observation = self._history.begin(self._observation(state, frame))
        info = self._info(state, frame)
        self._staged = StagedReward(info.get("progress", 0.0))
        return self.ledger.gives(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        checked = spec.check_action(action, self.action_kind)
        if self._interrupted:
            raise RobotError(f"The episode was interrupted ({self._interrupted}); reset before stepping on.")
        if not self._controlled:
            self._begin()
        if not self._interrupted:
            self._command(checked)
            self._late_s = self._pace.wait()
        state = self.arm.state()
        self._interrupted = self._interrupted or state.fault
        frame = self._frame_or_fault()
        observation = self.ledger.gives(self._history.add(self._observation(state, frame)))
        info = self._info(state, frame)
        success = bool(info["success"])
        if success or self._interrupted:
            # If the arm cannot be stopped either, the next reset recovers it; the first cause is kept.
            do_after(RobotError(self._interrupted) if self._interrupted else None, self.stop)
        if self._interrupted:
            log.error("Episode interrupted: %s", self._interrupted)
        self.ledger.carried_out(action, float(success))
        reward = self._staged.step(info["progress"]) if self._reward == STAGED else float(success)
        return observation, reward, success, bool(self._interrupted), info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The camera's image (480, 640, 3); grey, and saying so, when it is too old to act by."""
        if self.render_mode != "rgb_array":
            return None
        frame = self._camera.latest()
        old = frame.age_s > self.limits.max_frame_age_s
        return mark_old(frame.colour, frame.oldest) if old else frame.colour

    def stop(self) -> None:
        """End control of the arm; it holds itself where it is."""
        if self._controlled or self._guided:
            self._controlled = self._guided = False
            self.arm.stop()

    def close(self) -> None:
        self._open.close()

    # --- what recording, experts and operators use --------------------------------------------------

    def end_effector_pose_in_base(self) -> FloatArray:
        """(4, 4)."""
        return self.arm.state().pose_in_base

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose; empty on hardware."""
        return self.scene.object_poses_in_base()

    def camera_now(self, name: str = "agentview") -> Camera:
        """A camera as it stands at this moment, for the observation's images."""
        return self.cameras[name].at(self.end_effector_pose_in_base())

    def guide(self, on: bool) -> None:
        """Let a person move the arm by hand, or hold it again; meanwhile only an action's gripper acts."""
        self.stop()
        if on:
            self.arm.guide(True)
            self._guided = True

    def begin(self) -> dict[str, np.ndarray]:
        """The observation of an episode that begins at this moment, later than at its reset."""
        return self.ledger.gives(self._history.begin(self.observe()))

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of this moment, without a history."""
        return self._observation(self.arm.state(), self._await_frame())

    def describe(self) -> dict[str, Any]:
        """The world's description, which is stored with every recorded episode; JSON-able."""
        return {
            **self.world_spec.to_json(),
            "env": self._backend.name,
            "shift": self._backend.shift,
            "region": self.region,
            "cameras": {
                name: camera.to_json() | {"serial": self._camera.serial}
                for name, camera in self.cameras.items()
            },
            "limits": self.limits.to_json(),
            "versions": dict(_versions("simreal", "panda-python", "pyrealsense2", "gymnasium")),
        }

    # --- inside -----------------------------------------------------------------------------------

    def _prepare(self, joints_rad: FloatArray, placement: Placement) -> Frame:
        """Bring arm and objects to their start and take an image of it; repeated until that succeeds."""
        state = self.arm.state()
        question = MOVES if state.gripper_homed else f"{HOMES} {MOVES}"
        if state.fault:
            question = f"The robot stopped: {state.fault}. {question}"
        attempts = 0
        while True:
            attempts += 1
            asked = self.scene.confirm(question)
            try:
                self._recover()
                if not self.arm.state().gripper_homed:
                    self.arm.home_gripper()
                self.arm.open_gripper()
                self.arm.move_up(RAISE_M)
                self.arm.move_to_joints(joints_rad)
                self.scene.place(placement)
                self._recover()  # the operator places objects safely with the user stop pressed
                return self._await_frame(after_s=time.monotonic() + CAMERA_LATENCY_S)
            except RobotError as error:
                if not asked and attempts == ATTEMPTS:
                    raise
                log.warning("The reset is tried again: %s", error)
                question = f"{error} {MOVES}"

    def _recover(self) -> None:
        if self.arm.state().fault:
            self.arm.recover()
        self._interrupted = ""

    def _begin(self) -> None:
        """At the first step take control, unless a person guides the arm. A failure of this is a fault."""
        self._controlled = True
        try:
            if not self._guided:
                self.arm.start(joints=self.action_kind == "joint")
        except RobotError as error:
            self._interrupted = str(error)
        self._pace.start()

    def _command(self, action: FloatArray) -> None:
        if self.action_kind == "joint":
            self.arm.command_joints(action[:7], float(action[7]))
        else:
            self.arm.command(pose_from_action(action), float(action[6]))

    def _fresh_frame(self) -> Frame:
        return self._camera.latest(max_age_s=self.limits.max_frame_age_s)

    def _await_frame(self, after_s: float = 0.0) -> Frame:
        """A fresh frame, arrived after that time, where there is time for the camera to come back."""
        give_up_s = time.monotonic() + FRAME_TIMEOUT_S
        while time.monotonic() < give_up_s:
            frame = self._camera.latest()
            if frame.time_s >= after_s and frame.age_s <= self.limits.max_frame_age_s:
                return frame
            time.sleep(0.01)
        return self._fresh_frame()

    def _frame_or_fault(self) -> Frame:
        """The latest frame; an old one interrupts the episode."""
        try:
            return self._fresh_frame()
        except RobotError as error:
            self._interrupted = self._interrupted or str(error)
            return self._camera.latest()

    def _look(self) -> tuple[np.ndarray, Camera]:
        return self._await_frame().colour, self._backend.calibrated(self._camera)

    def _observation(self, state: ArmState, frame: Frame) -> dict[str, np.ndarray]:
        groups, size = self.observation_spec.groups, self.observation_spec.image_size
        finger_m = state.gripper_width_m / 2
        observation = {
            "robot0_eef_pos": state.pose_in_base[:3, 3].astype(np.float32),
            "robot0_eef_quat": quaternion_xyzw(state.pose_in_base[:3, :3]),
            "robot0_joint_pos": state.joints_rad.astype(np.float32),
            "robot0_gripper_qpos": np.array([finger_m, -finger_m], np.float32),
        }
        if "state" in groups:
            poses = self.scene.object_poses_in_base()
            parts = [p for name in self.task.objects for p in _position_and_quaternion(poses[name])]
            observation[spec.OBJECT_KEY] = np.concatenate(parts).astype(np.float32)
        if "image" in groups:
            observation[image_key("agentview")] = fit_colour(frame.colour, size)
        if "depth" in groups and frame.depth_m is not None:
            observation[depth_key("agentview")] = fit_depth(frame.depth_m, size)
        if self.observation_spec.sees_points:
            observation |= self._point_cloud(state, frame)
        return observation

    def _point_cloud(self, state: ArmState, frame: Frame) -> dict[str, np.ndarray]:
        """The arrays of a point cloud; without a point in the workspace they are zero, the episode ends."""
        assert frame.depth_m is not None
        depth_m, colour = fit_depth(frame.depth_m, VIEW_SIZE), fit_colour(frame.colour, VIEW_SIZE)
        view = View(self._view.at(state.pose_in_base), depth_m, colour)
        try:
            cloud = shown(self.observation_spec.groups, [view], self.observation_spec.points)
        except DataError as error:
            self._interrupted = self._interrupted or str(error)
            return {f.key: np.zeros(f.shape, f.dtype) for f in self.world_spec.of("pointcloud")}
        self._clouds += 1
        return EpisodeDraws(0).cloud(cloud, self._backend.shifts, self._clouds)

    def _info(self, state: ArmState, frame: Frame) -> dict[str, Any]:
        signals = self.scene.subtask_signals()
        self._progress.update(signals)
        progress = self._progress.to_json()
        progress["success"] = progress["success"] and not self._interrupted
        info: dict[str, Any] = {
            **progress,
            "subtask_signals": signals,
            "time_s": state.time_s,
            "late_s": self._late_s,
            "frame_age_s": frame.age_s,
            "interrupted": self._interrupted,
            "events": self.arm.events(),
            "placement_region": self._placement_region,
            "end_effector_pose_in_base": state.pose_in_base,
        }
        if self._reward == STAGED:
            info["progress"] = share_done(self.task.stages, signals, self.scene.closeness())
        if poses := self.scene.object_poses_in_base():
            info["object_poses_in_base"] = poses
        return info


def _position_and_quaternion(pose: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    return pose[:3, 3], quaternion_xyzw(pose[:3, :3])


def _versions(*names: str) -> list[tuple[str, str]]:
    found = []
    for name in names:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # installed in another way, e.g. built from source
            continue
    return found
