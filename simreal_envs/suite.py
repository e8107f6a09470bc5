"""The tasks as robosuite's own environments: after this import, ``robosuite.make("SimrealDrawer", ...)``.

The names are ``Simreal`` and the task's, so that none clashes with robosuite's ``Lift`` or ``Stack``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import mujoco
import numpy as np
from robosuite.environments.base import REGISTERED_ENVS
from robosuite.utils.observables import Observable, sensor

from simreal_envs.errors import UsageError, unknown
from simreal_envs.poses import quaternion_xyzw
from simreal_envs.sim.physics import Physics
from simreal_envs.sim.scene import TabletopScene
from simreal_envs.spec import BASE_IN_WORLD_M, REGIONS, check_choice
from simreal_envs.tasks import TASKS, get_task
from simreal_envs.tasks.progress import conditions
from simreal_envs.tasks.staged import SPARSE, STAGED, check_reward, share_done

PREFIX = "Simreal"


class SuiteEnv(TabletopScene):
    """A task of simreal as an environment of robosuite. Made by ``robosuite.make("SimrealDrawer", "Panda")``.

    Scene, starts and success are those of ``gym.make("simreal/Drawer-v0")``; controllers, actions,
    observables, cameras, renderers and resets are robosuite's. As there, an episode ends at the horizon only.

    Args:
        robots: ``Panda`` with its own gripper, fixed to the table; the tasks' rules read its finger pads.
        region: where objects start: ``in``, ``ood`` or ``all``.
        use_object_obs: observe each object's position and quaternion (xyzw) in robosuite's world frame, and
            where it is from the gripper.
        reward_scale: the reward of success; None leaves it at 1.
        reward_shaping: reward each step with the share of the task that is done, see
            :mod:`simreal_envs.tasks.staged`, instead of with success alone.
        kwargs: robosuite's own, see ``robosuite.environments.manipulation.manipulation_env.ManipulationEnv``.

    Raises:
        UsageError: another robot or gripper, or an unknown region.
    """

    task_name: str

    def __init__(
        self,
        robots: str | list[str] = "Panda",
        region: str = "all",
        use_object_obs: bool = True,
        reward_scale: float | None = 1.0,
        reward_shaping: bool = False,
        **kwargs: Any,
    ) -> None:
        self.region = check_choice("region", region, REGIONS)
        self.use_object_obs = use_object_obs
        self.reward_scale, self.reward_shaping = reward_scale, reward_shaping
        task = get_task(self.task_name)
        check_reward(STAGED if reward_shaping else SPARSE, task)
        if (gripper := kwargs.get("gripper_types", "default")) not in ("default", "PandaGripper"):
            raise unknown("gripper", gripper, ("default", "PandaGripper"))
        if "placement_initializer" in kwargs or "base_types" in kwargs:
            raise UsageError(
                "Where objects start is the task's (choose a region), and the base is its table."
            )
        own = {
            "controller_configs": None,
            "initialization_noise": "default",
            "has_offscreen_renderer": True,
            "use_camera_obs": True,
            "hard_reset": True,
            "horizon": 1000,
        }
        super().__init__(task, robots=robots, **(own | kwargs))

    def _check_robot_configuration(self, robots: Any) -> None:
        names = [robots] if isinstance(robots, str) else list(robots)
        if names != ["Panda"]:
            raise unknown("robots", robots, ("Panda",))

    def _setup_references(self) -> None:
        super()._setup_references()
        self.physics = Physics(self.sim.model._model, self.sim.data._data, self.task.objects)

    def _reset_internal(self) -> None:
        super()._reset_internal()
        if not self.deterministic_reset:
            self.physics.place(self.task.sample_placement(self.region, self.rng))

    def reward(self, action: Any = None) -> float:
        """Success, or the share of the task that is done, times the scale; ``action`` is not used."""
        now = self._stages_now()
        share = float(now[self.task.stages[-1]])
        if self.reward_shaping and self.task.closeness is not None:
            share = share_done(self.task.stages, now, self.task.closeness(self.physics, now))
        return share * (1.0 if self.reward_scale is None else self.reward_scale)

    def _check_success(self) -> bool:
        return self._stages_now()[self.task.stages[-1]]

    def _stages_now(self) -> dict[str, bool]:
        physics = self.physics
        mujoco.mj_kinematics(physics.model, physics.data)  # a step leaves poses of the positions before
        return conditions(self.task, physics)

    def _setup_observables(self) -> OrderedDict[str, Observable]:
        observables = super()._setup_observables()
        if not self.use_object_obs:
            return observables
        (arm,) = self._get_arm_prefixes(self.robots[0])
        sensors: dict[str, Any] = {}
        for name in self.task.objects:
            to_gripper = f"gripper_to_{name}_pos"
            sensors |= {f"{name}_pos": self._position(name), f"{name}_quat": self._quaternion(name)}
            sensors[to_gripper] = self._get_obj_eef_sensor(arm, f"{name}_pos", to_gripper, "object")
        for name, of in sensors.items():
            observables[name] = Observable(name=name, sensor=of, sampling_rate=self.control_freq)
        return observables

    def _position(self, name: str) -> Any:
        @sensor(modality="object")
        def position(obs_cache: Any) -> np.ndarray:
            return self.physics.object_position_in_base(name) + BASE_IN_WORLD_M

        return position

    def _quaternion(self, name: str) -> Any:
        @sensor(modality="object")
        def quaternion(obs_cache: Any) -> np.ndarray:
            return quaternion_xyzw(self.physics.object_pose_in_base(name)[:3, :3])

        return quaternion


def _register() -> None:
    """robosuite's metaclass notes every class by its name; the classes that are no task are taken out."""
    for name in TASKS:
        type(f"{PREFIX}{name}", (SuiteEnv,), {"task_name": name, "__module__": __name__})
    for helper in (SuiteEnv, TabletopScene):
        REGISTERED_ENVS.pop(helper.__name__, None)


_register()
