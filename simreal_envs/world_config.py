"""A world by description: what it takes to make the same environment again, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from simreal_envs.errors import UsageError
from simreal_envs.features import (
    DEFAULT_CAMERAS,
    DEFAULT_IMAGE_SIZE,
    DEFAULT_POINTS,
    ObservationSpec,
    WorldSpec,
)
from simreal_envs.spec import ACTION_KINDS, ENVS, HORIZON, REGIONS, check_choice
from simreal_envs.tasks import get_task


@dataclass(frozen=True)
class WorldConfig:
    """Describes a world by the arguments of ``gymnasium.make`` except the region. Picklable.

    Attributes:
        shift: its presets are written out.
        action_kind: ``pose``, ``delta`` or ``joint``. Rig and robot take ``pose`` and ``joint`` themselves;
            otherwise the environment gets a wrapper of :mod:`simreal_envs.wrappers`.
        host, limits: of a robot or rig: its address, and the file of its safety limits.
        serial: of a robot's camera.

    Raises:
        UsageError: one of them is not valid.
    """

    task: str
    env: str = "sim"
    shift: str = "none"
    obs: str = "image"
    image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE
    max_steps: int = HORIZON
    action_kind: str = "pose"
    host: str | None = None
    serial: str | None = None
    limits: str | None = None
    cameras: str | tuple[str, ...] = DEFAULT_CAMERAS
    points: int = DEFAULT_POINTS
    history: int = 1

    def __post_init__(self) -> None:
        from simreal_envs.shifts import expanded, parse_seen, shifts_of

        task = get_task(self.task)
        check_choice("env", self.env, ENVS)
        check_choice("action kind", self.action_kind, ACTION_KINDS)
        if self.env == "sim":
            shifts_of(self.shift, task)
        else:
            parse_seen(self.shift)
        object.__setattr__(self, "shift", expanded(self.shift))
        self.observation_spec  # noqa: B018  raises what is wrong with it
        if self.max_steps < 1:
            raise UsageError(f"max_steps {self.max_steps} must be at least 1.")
        if self.env == "sim" and self._of_robot:
            raise UsageError(f"{', '.join(self._of_robot)} goes with env 'rig' or 'real', not with 'sim'.")
        if self.env == "rig" and self.serial is not None:
            raise UsageError(f"serial {self.serial} goes with env 'real'; the rig has one camera of its own.")
        if self.env != "sim" and self.observation_spec.cameras != DEFAULT_CAMERAS:
            raise UsageError(
                f"cameras {'+'.join(self.observation_spec.cameras)} go with env 'sim'; env {self.env!r} has "
                f"{'+'.join(DEFAULT_CAMERAS)}."
            )
        if self.env == "real" and self.host is None:
            raise UsageError("env 'real' needs the address of the robot, for example --host 172.16.0.2.")

    @property
    def observation_spec(self) -> ObservationSpec:
        """The observations that the world is asked for."""
        return ObservationSpec.parse(self.obs, self.image_size, self.cameras, self.points, self.history)

    @property
    def spec(self) -> WorldSpec:
        """The arrays that the world shows, and the actions that it takes."""
        shown = self.observation_spec
        features = shown.features(len(get_task(self.task).objects))
        return WorldSpec(self.task, self.action_kind, features, shown.history)

    @classmethod
    def showing(cls, needed: WorldSpec, **kwargs: Any) -> WorldConfig:
        """Describe a world that fits ``needed``; ``kwargs`` are further arguments of the constructor."""
        shown = ObservationSpec.of(needed.features, needed.history)
        return cls(
            needed.task,
            obs="+".join(shown.groups) or "state",
            image_size=shown.image_size,
            action_kind=needed.action_kind,
            cameras=shown.cameras,
            points=shown.points,
            history=shown.history,
            **kwargs,
        )

    @property
    def workers(self) -> int | None:
        """How many environments may exist at once: one on rig and robot; None: any number, in simulation."""
        return None if self.env == "sim" else 1

    def make(self, region: str, **kwargs: Any) -> gym.Env[Any, Any]:
        """The environment, with objects starting in ``region``."""
        from simreal_envs.wrappers import DeltaActions, JointActions

        check_choice("region", region, REGIONS)
        by_arm = self.action_kind == "joint" and self.env != "sim"
        env = gym.make(
            f"simreal_envs:simreal/{self.task}-v0",
            env=self.env,
            shift=self.shift,
            obs=self.obs,
            image_size=self.image_size,
            cameras=self.cameras,
            points=self.points,
            history=self.history,
            region=region,
            max_episode_steps=self.max_steps,
            actions="joint" if by_arm else "pose",
            **self._of_robot,
            **kwargs,
        )
        if by_arm or self.action_kind == "pose":
            return env
        return DeltaActions(env) if self.action_kind == "delta" else JointActions(env)

    @property
    def _of_robot(self) -> dict[str, Any]:
        values = {"host": self.host, "serial": self.serial, "limits": self.limits}
        return {name: value for name, value in values.items() if value is not None}
