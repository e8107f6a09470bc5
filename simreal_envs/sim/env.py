"""The simulated world: robosuite's scene, stepped and rendered fast, behind the contract of ``spec.py``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from simreal_envs import spec
from simreal_envs.cameras import CAMERA_SPECS, THIRD_PERSON, Camera
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
from simreal_envs.poses import pose, quaternion_xyzw
from simreal_envs.shifts import PHYSICS, EpisodeDraws, expanded, shifts_of, that_override
from simreal_envs.sim.parts import check_every_pair, restore
from simreal_envs.sim.past import Past
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.renderer import Renderer
from simreal_envs.sim.scene import compiled_scene  # after the renderer, which chooses the GL backend
from simreal_envs.spec import FloatArray
from simreal_envs.stack import Ledger
from simreal_envs.tasks import get_task
from simreal_envs.tasks.placement import draw_start
from simreal_envs.tasks.progress import Progress, conditions
from simreal_envs.tasks.staged import SPARSE, STAGED, StagedReward, check_reward, share_done

QUALITIES = ("fast", "full")

log = logging.getLogger(__name__)


class SimEnv(gym.Env[dict[str, Any], np.ndarray]):
    """A task on the simulated Panda. Made by ``gym.make("simreal/Lift-v0", env="sim", ...)``.

    Args:
        task: name of the task.
        obs: observation groups joined by ``+``, see :class:`simreal_envs.features.ObservationSpec`.
        image_size: (height, width) in pixels.
        cameras: ``agentview``, ``wrist`` or both; joined by ``+``, or their names.
        points: of a point cloud.
        history: moments in one observation, the oldest first.
        shift: the domain shifts, see :mod:`simreal_envs.shifts`.
        region: where objects start: ``in``, ``ood`` or ``all``.
        quality: ``fast`` or ``full`` rendering.
        render_mode: ``rgb_array`` for :meth:`render`, at 480 x 640.
        reward: ``sparse``, 1 on success and else 0, or ``staged``, see :mod:`simreal_envs.tasks.staged`.

    ``reset(options={"placement": {"cube": (x, y, yaw)}})`` puts objects where you say: metres from the
    table's centre, radians. The same seed gives the same episode bit for bit.

    Raises:
        UsageError: an argument is not one of the valid ones.
        MissingDependencyError: no OpenGL; raised here if MuJoCo cannot load, else at the first image.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": spec.CONTROL_HZ}
    action_kind = "pose"
    real_time = False
    """Whether time passes by itself between steps."""

    def __init__(
        self,
        task: str,
        obs: str = "image",
        image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE,
        cameras: str | Sequence[str] = DEFAULT_CAMERAS,
        points: int = DEFAULT_POINTS,
        history: int = 1,
        shift: str = "none",
        region: str = "all",
        quality: str = "fast",
        render_mode: str | None = None,
        reward: str = SPARSE,
    ) -> None:
        self.task = get_task(task)
        self.observation_spec = ObservationSpec.parse(obs, image_size, cameras, points, history)
        self.region = spec.check_choice("region", region, spec.REGIONS)
        self.shift, self._shifts = expanded(shift), shifts_of(shift, self.task)
        self.quality = spec.check_choice("quality", quality, QUALITIES)
        self.render_mode = spec.check_render_mode(render_mode)
        self._reward = check_reward(reward, self.task)
        features = self.observation_spec.features(len(self.task.objects))
        self.world_spec = WorldSpec(self.task.name, self.action_kind, features, self.observation_spec.history)
        self.observation_space = self.world_spec.space
        self.action_space = spec.action_space(self.action_kind)
        self.ledger = Ledger()
        scene = compiled_scene(task, tuple(that_override("build", self._shifts)))
        self.model_xml = scene.xml
        self._unshifted = scene.model
        own = scene.model
        if that_override("reset_physics", self._shifts):
            own = copy(scene.model)
            check_every_pair(own)
        self.physics = Physics(own, mujoco.MjData(own), self.task.objects)
        self._past = Past(0)
        self._earlier: Physics | None = None
        """The physics some control steps ago, made when there is an image delay."""
        self._told_of_hidden = False
        self._renderers: dict[tuple[int, int], Renderer] = {}
        """By image size, each made when it is first needed: a process may fork before."""
        self._history = History(self.observation_spec.history)
        self._draws = EpisodeDraws(0)
        self._came: dict[int, list[np.ndarray]] = {}
        self._place_cameras()
        self._progress = Progress(self.task.stages)
        self._placement_region = region

    # --- Gymnasium --------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        joints_rad, placement = draw_start(self.task, self.region, self.np_random, options)
        self._draws, self._came = EpisodeDraws(int(self.np_random.integers(2**63))), {}
        self._shift_episode()
        self.physics.reset(joints_rad, placement, self._draws.gains(self._shifts))
        self._past = Past(self._draws.image_delay(self._shifts))
        self._past.add(self._moment, self.sim_state())
        self._warn_of_hidden_objects()
        self._placement_region = self.task.region_of(placement)
        self._progress = Progress(self.task.stages)
        info = self._info()
        self._staged = StagedReward(info.get("progress", 0.0))
        return self.begin(), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        checked = spec.check_action(action, self.action_kind)
        told = self._draws.action(checked, self._shifts, self._came)
        rotation = Rotation.from_rotvec(told[3:6]).as_matrix()
        self.physics.step(pose(rotation, told[:3]), float(told[6]))
        self._past.add(self._moment, self.sim_state())
        info = self._info()
        success = info["success"]
        self.ledger.carried_out(action, float(success))
        observation = self.ledger.gives(self._history.add(self.observe()))
        reward = self._staged.step(info["progress"]) if self._reward == STAGED else float(success)
        return observation, reward, success, False, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """A large picture (480, 640, 3) of what the first camera sees; changes no observation."""
        if self.render_mode != "rgb_array":
            return None
        name = self.observation_spec.cameras[0]
        return self._look(name, THIRD_PERSON.size)[0]

    def stop(self) -> None:
        """Nothing moves between steps, so there is nothing to stop."""

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    # --- what recording, generation and evaluation read ---------------------------------------------

    def begin(self) -> dict[str, np.ndarray]:
        """The observation of an episode that begins at this moment, later than at its reset."""
        return self.ledger.gives(self._history.begin(self.observe()))

    def observe(self) -> dict[str, np.ndarray]:
        """The observation of the present state, without a history."""
        physics, groups = self.physics, self.observation_spec.groups
        hand = physics.end_effector_pose_in_base()
        observation = {
            "robot0_eef_pos": hand[:3, 3].astype(np.float32),
            "robot0_eef_quat": quaternion_xyzw(hand[:3, :3]),
            "robot0_joint_pos": physics.joint_positions_rad.astype(np.float32),
            "robot0_gripper_qpos": physics.finger_positions_m.astype(np.float32),
        }
        if "state" in groups:
            poses = [physics.object_pose_in_base(name) for name in self.task.objects]
            parts = [part for p in poses for part in (p[:3, 3], quaternion_xyzw(p[:3, :3]))]
            observation[spec.OBJECT_KEY] = np.concatenate(parts).astype(np.float32)
        for camera in self.observation_spec.cameras if {"image", "depth"} & set(groups) else ():
            image, depth_m = self._look(camera, self.observation_spec.image_size, depth="depth" in groups)
            if "image" in groups:
                observation[image_key(camera)] = image
            if depth_m is not None:
                observation[depth_key(camera)] = depth_m
        if self.observation_spec.sees_points:
            views = [self._view(camera) for camera in self.observation_spec.cameras]
            cloud = shown(groups, views, self.observation_spec.points)
            observation |= self._draws.cloud(cloud, self._shifts, _moment(self._shown))
        return observation

    def object_poses_in_base(self) -> dict[str, FloatArray]:
        """Each object's (4, 4) pose."""
        return {name: self.physics.object_pose_in_base(name) for name in self.task.objects}

    def end_effector_pose_in_base(self) -> FloatArray:
        """(4, 4)."""
        return self.physics.end_effector_pose_in_base()

    def camera_now(self, name: str = "agentview", size: tuple[int, int] | None = None) -> Camera:
        """A camera as it stands at this moment, for the observation's images or those of another size.

        With an image delay, it is where it was when the images were taken that are shown at this moment.
        """
        size = size or self.observation_spec.image_size
        return self._sized[name, size].at(self._shown.end_effector_pose_in_base())

    def sim_state(self) -> FloatArray:
        """Flat simulator state [time, positions, velocities]."""
        return self.physics.get_state()

    def set_sim_state(self, state: FloatArray) -> None:
        """Show a recorded state; then :meth:`observe`.

        With an image delay, an episode's states are to be shown in order, from the first one.
        """
        self.physics.set_state(state)
        self._past.add(self._moment, self.sim_state())

    def describe(self) -> dict[str, Any]:
        """The world's description, which is stored with every recorded episode; JSON-able."""
        return {
            **self.world_spec.to_json(),
            "env": "sim",
            "shift": self.shift,
            "region": self.region,
            "quality": self.quality,
            "cameras": {name: camera.to_json() for name, camera in self.cameras.items()},
            "versions": {name: version(name) for name in ("simreal", "robosuite", "mujoco", "gymnasium")},
        }

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _moment(self) -> int:
        """Control steps since the reset."""
        return _moment(self.physics)

    @property
    def _shown(self) -> Physics:
        """The physics as the cameras show them: at this moment or, with an image delay, before."""
        if not self._past.steps:
            return self.physics
        state = self._past.before(self._moment)
        if self._earlier is None:
            model = self.physics.model
            self._earlier = Physics(model, mujoco.MjData(model), self.task.objects)
        if not np.array_equal(self._earlier.get_state(), state):
            self._earlier.set_state(state)
        return self._earlier

    def _shift_episode(self) -> None:
        """Cameras, looks and physics of an episode, as its shifts draw them."""
        if any(shift.is_drawn for shift in self._shifts):
            self._place_cameras()
            for renderer in self._renderers.values():
                renderer.repaint(self._draws)
        if self.physics.model is not self._unshifted:
            restore(self.physics.model, self._unshifted, PHYSICS)
            self._draws.physics(self.physics.model, self._shifts)
            mujoco.mj_setConst(self.physics.model, self.physics.data)

    def _place_cameras(self) -> None:
        shown_size = self.observation_spec.image_size
        self._sized = {}
        for name in self.observation_spec.cameras:
            number = tuple(CAMERA_SPECS).index(name)
            placed = self._draws.camera(CAMERA_SPECS[name], self._shifts, number)
            for size in (shown_size, VIEW_SIZE, THIRD_PERSON.size):
                self._sized[name, size] = placed.resized(size)
        self.cameras = {name: self._sized[name, shown_size] for name in self.observation_spec.cameras}

    def _look(
        self, name: str, size: tuple[int, int], depth: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour and, if asked for, depth of what is shown, as the camera's sensors measure them."""
        camera = self.camera_now(name, size)
        if size not in self._renderers:
            self._renderers[size] = Renderer(self._unshifted, camera, self._shifts, self.quality, self._draws)
        renderer = self._renderers[size]
        renderer.camera = camera
        physics = self._shown
        image, depth_m = renderer.render(physics.data, depth)
        moment = _moment(physics)
        number = tuple(CAMERA_SPECS).index(name)
        if depth_m is not None:
            depth_m = self._draws.depth(depth_m, self._shifts, moment, number)
        return self._draws.image(image, self._shifts, moment, number), depth_m

    def _view(self, name: str) -> View:
        """What a point cloud takes from a camera."""
        colour, depth_m = self._look(name, VIEW_SIZE, depth=True)
        assert depth_m is not None
        return View(self.camera_now(name, VIEW_SIZE), depth_m, colour)

    def _warn_of_hidden_objects(self) -> None:
        """Say once if a shift has moved an object out of all images of the cameras that stand still."""
        chosen = [CAMERA_SPECS[name] for name in self.observation_spec.cameras]
        fixed = [camera for camera in chosen if camera.mount == "base"]
        sees = set(self.observation_spec.groups) - {"state"}
        if self._told_of_hidden or not (fixed and sees and that_override("reset_camera", self._shifts)):
            return
        hand, size = self.end_effector_pose_in_base(), self.observation_spec.image_size
        for name in self.task.objects:
            balls = self.physics.object_balls_in_base(name)
            usual = any(camera.resized(size).at(hand).shows(*balls).any() for camera in fixed)
            if usual and not any(self._sized[c.name, size].at(hand).shows(*balls).any() for c in fixed):
                log.warning(
                    "Shift %r moves the camera so far that %r is outside of its images after a reset. "
                    "Choose a lower strength.",
                    self.shift,
                    name,
                )
                self._told_of_hidden = True
                return

    def _info(self) -> dict[str, Any]:
        now = conditions(self.task, self.physics)
        self._progress.update(now)
        staged: dict[str, Any] = {}
        if self._reward == STAGED and self.task.closeness is not None:
            staged["progress"] = share_done(self.task.stages, now, self.task.closeness(self.physics, now))
        return {
            **self._progress.to_json(),
            "subtask_signals": now,
            "time_s": self.physics.time_s,
            "placement_region": self._placement_region,
            "sim_state": self.sim_state(),
            "object_poses_in_base": self.object_poses_in_base(),
            "end_effector_pose_in_base": self.end_effector_pose_in_base(),
            **staged,
        }


def _moment(physics: Physics) -> int:
    """Control steps since the reset."""
    return round(physics.time_s * spec.CONTROL_HZ)
