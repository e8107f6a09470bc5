"""Turns the steps of the episode loop into an :class:`Episode`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from simreal_datasets.store.episode import DatagenInfo, Episode
from simreal_envs.errors import UsageError
from simreal_envs.features import WorldSpec
from simreal_envs.loop import Outcome, Step
from simreal_envs.poses import pose_from_action
from simreal_envs.spec import check_action, check_observation
from simreal_envs.stack import MEND, check_stack, suspects
from simreal_envs.table_world import table_world

TIMING = ("time_s", "late_s", "frame_age_s")
"""Recorded of worlds that run in real time: the world's clock, by how much the step that led to the
observation missed its deadline, and the age of the camera's frame."""


class EpisodeRecorder:
    """Records one episode: hand it to ``run_episode`` as ``recorder``, then call :meth:`finish`.

    One recorder serves any number of episodes, one after the other. An episode is refused if wrappers changed
    observations or actions, since it is stored with its world's own description. Rewards are 1 on
    success and else 0, whatever reward the world gives.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        # A world may reuse its buffers from step to step.
        observation = {name: np.array(value) for name, value in step.observation.items()}
        action = np.array(step.action, dtype=np.float64)
        self._steps.append(
            Step(
                observation,
                action,
                step.reward,
                step.terminated,
                step.truncated,
                dict(step.info),
                step.altered,
            )
        )

    def finish(self, env: gym.Env[Any, Any], outcome: Outcome, actor: str) -> Episode:
        """The recorded episode; the recorder is empty again afterwards.

        ``actor`` names who acted (``expert``, ``generate``, a run's path). Simulator states and MimicGen's
        fields come along where the world's ``info`` has them.

        Raises:
            UsageError: a wrapper changed spaces, observations or actions of the world; names the wrapper and
                what it changed.
        """
        steps, self._steps = self._steps, []
        check_stack(env)
        for t, step in enumerate(steps):
            if step.altered:
                raise UsageError(
                    f"At step {t} wrappers changed {', '.join(step.altered)} between the world and the "
                    f"recording: {suspects(env)}. {MEND}"
                )
        first = steps[0].info
        meta = table_world(env).describe() | {
            "action_kind": env.get_wrapper_attr("action_kind"),
            "history": 1,
            "seed": outcome.seed,
            "actor": actor,
            "success": outcome.success,
            "stage": outcome.stage,
            "stages_reached": outcome.stages_reached,
            "placement_region": first.get("placement_region"),
        }
        if outcome.interrupted:
            meta["interrupted"] = outcome.interrupted
        if "events" in first:
            meta["events"] = _events([*(step.info for step in steps), outcome.info])
        has_states = "sim_state" in first
        spec = table_world(env).world_spec
        observations = {
            name: np.stack([step.observation[name] for step in steps]) for name in steps[0].observation
        }
        if spec.history > 1:  # each moment is stored once
            observations = {name: values[:, -1] for name, values in observations.items()}
        _check_described(observations, steps, spec.one_moment, meta["action_kind"])
        return Episode(
            observations=observations,
            actions=np.stack([step.action for step in steps]),
            rewards=np.array([step.reward for step in steps]),
            dones=np.array([step.terminated or step.truncated for step in steps]),
            meta=meta,
            states=np.stack([step.info["sim_state"] for step in steps]) if has_states else None,
            model_xml=env.unwrapped.model_xml if has_states else None,  # type: ignore[attr-defined]
            datagen=_datagen(steps, meta["action_kind"]) if "object_poses_in_base" in first else None,
            timing={name: np.array([step.info[name] for step in steps]) for name in TIMING}
            if "late_s" in first
            else {},
        )


def _check_described(
    observations: dict[str, np.ndarray], steps: list[Step], spec: WorldSpec, action_kind: str
) -> None:
    """Refuse observations and actions that do not fit the world's description."""
    described = spec.space
    check_observation(observations, described)
    if more := set(observations) - set(described):
        raise UsageError(f"Observations {sorted(more)} are not described. Described: {', '.join(described)}.")
    for step in steps:
        check_action(step.action, action_kind)


def _events(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a robot's driver did and saw (limits acting, a hold, a fault); s since the first observation."""
    return [
        {
            "time_s": round(event.time_s - infos[0]["time_s"], 3),
            "kind": event.kind,
            "message": event.message,
        }
        for info in infos
        for event in info["events"]
    ]


def _datagen(steps: list[Step], action_kind: str) -> DatagenInfo | None:
    """MimicGen's fields; only a pose action says which pose it asked for."""
    if action_kind != "pose":
        return None
    infos = [step.info for step in steps]
    return DatagenInfo(
        eef_pose=np.stack([info["end_effector_pose_in_base"] for info in infos]),
        object_poses={
            name: np.stack([info["object_poses_in_base"][name] for info in infos])
            for name in infos[0]["object_poses_in_base"]
        },
        subtask_term_signals={
            name: np.array([info["subtask_signals"][name] for info in infos], dtype=np.int64)
            for name in infos[0]["subtask_signals"]
        },
        target_pose=np.stack([pose_from_action(step.action) for step in steps]),
        gripper_action=np.stack([step.action[-1:] for step in steps]),
    )
