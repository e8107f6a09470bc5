"""``gym.make("simreal/Lift-v0", env="sim", ...)`` after ``import simreal_envs``.

Gymnasium 1.0 dropped the entry points that once registered environments unasked; without the import,
``gym.make("simreal_envs:simreal/Lift-v0")`` does the same.
"""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym

from simreal_envs.errors import UsageError
from simreal_envs.spec import ENVS, HORIZON, check_choice
from simreal_envs.tasks import TASKS


def register() -> None:
    """Called once by ``import simreal_envs``."""
    for name in TASKS:
        gym.register(
            id=f"simreal/{name}-v0",
            entry_point="simreal_envs.registration:make_env",
            max_episode_steps=HORIZON,
            kwargs={"task": name},
        )


def make_env(
    task: str,
    env: str = "sim",
    host: str | None = None,
    shift: str = "none",
    serial: str | None = None,
    actions: str = "pose",
    **kwargs: Any,
) -> gym.Env[Any, Any]:
    """Make one world of a task.

    Args:
        task: name of the task.
        env: ``sim``, ``rig`` (the virtual rig) or ``real``.
        host: address of the robot; a rig without one is started here, and ended with the environment.
        shift: the domain shifts or presets; on ``real`` only ``none`` is valid.
        serial: of the RealSense, where there are several on a real robot's machine.
        actions: ``pose``; on ``rig`` and ``real`` also ``joint``, for an arm that takes joint targets itself.
        kwargs: see :class:`simreal_envs.sim.env.SimEnv` and :class:`simreal_envs.robot.env.RobotEnv`.

    Raises:
        UsageError: an argument is not one of the valid ones, or does not go with ``env``.
    """
    check_choice("env", env, ENVS)
    if env == "sim":
        from simreal_envs.sim.env import SimEnv

        if host is not None or serial is not None:
            raise UsageError(
                "env 'sim' has no host (env 'rig' and 'real' have) and no camera serial (env 'real' has)."
            )
        if actions != "pose":
            wrapper = "DeltaActions" if actions == "delta" else "JointActions"
            raise UsageError(f"env 'sim' takes 'pose' actions, not {actions!r}: wrap it in {wrapper}.")
        _check_arguments(SimEnv, kwargs)
        return SimEnv(task, shift=shift, **kwargs)

    if env == "rig" and serial is not None:
        raise UsageError(f"env 'rig' has one camera of its own: serial {serial!r} goes with env 'real'.")
    from simreal_envs.robot.backends import Hardware, VirtualRig
    from simreal_envs.robot.env import RobotEnv

    _check_arguments(RobotEnv, kwargs)
    backend = VirtualRig(task, host, shift) if env == "rig" else Hardware(host, shift, serial)
    return RobotEnv(task, backend, actions=actions, **kwargs)


def _check_arguments(cls: type, kwargs: dict[str, Any]) -> None:
    own = [*inspect.signature(make_env).parameters][1:-1]
    of_class = [name for name in inspect.signature(cls).parameters if name not in ("task", "backend", *own)]
    for name in kwargs:
        check_choice("argument", name, [*own, *of_class])
