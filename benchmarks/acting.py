"""Acting in time: loading, latency here and served, jumps where chunks meet, late steps on the rig; as JSON.

    python benchmarks/acting.py runs/mse runs/flow                       # an hour; let nothing else run
    python benchmarks/acting.py runs/mse --parts rig --seconds 60        # only late steps, two minutes a row

Runs are policies of Lift, trained without a shift. Writes ``docs/figures/acting.json`` and prints tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from simreal_agents.actors.factories import ActorFactory, named_actor
from simreal_agents.evaluation.play import one_torch_thread
from simreal_agents.evaluation.statistics import wilson_interval
from simreal_agents.policies.acting import ENSEMBLE, JOINS, Acting
from simreal_datasets.store.files import force_to_disk
from simreal_envs.errors import UsageError
from simreal_envs.loop import Step, run_episode
from simreal_envs.parallel import Heartbeat, Work, run_in_processes
from simreal_envs.robot.pace import PERIOD_S
from simreal_envs.seeds import SELECTION, seeds_for
from simreal_envs.world_config import WorldConfig

OUTPUT = Path(__file__).parents[1] / "docs/figures/acting.json"
PARTS = ("load", "latency", "joins", "rig")
AHEAD = (0, 2, 4)
LATE_S = 0.001
LOADING = """
import time; began = time.perf_counter()
import torch; imported = time.perf_counter()
from simreal_agents.policies.policy import load_policy; ours = time.perf_counter()
load_policy({run!r}, device="cpu"); loaded = time.perf_counter()
print(imported - began, ours - imported, loaded - ours, time.process_time())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--max-steps", type=int, default=240, help="of an episode")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise UsageError(f"Unknown parts {', '.join(unknown)}. Valid: {', '.join(PARTS)}.")
    table = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for run in arguments.runs:
        rows = table.setdefault(run.name, {"identity": named_actor(str(run)).identity()})
        for part in parts:
            if part == "load":
                measured = loading(run)
            elif part == "latency":
                measured = latencies(run, arguments.chunks)
            elif part == "joins":
                measured = joins(run, arguments.episodes, arguments.max_steps, arguments.workers)
            else:
                measured = on_the_rig(run, arguments.seconds, arguments.max_steps)
            rows[part] = {"machine": machine(), "rows": measured}
            arguments.output.write_text(json.dumps(table, indent=1) + "\n")
            force_to_disk(arguments.output)
            print(f"\n{run.name}: {part} (load {rows[part]['machine']['load_average']:.1f})")
            print_rows(measured)


def machine() -> dict[str, Any]:
    """What else this machine was doing: how late a step is depends on it."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 1),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def ways(run: Path) -> list[tuple[int, Acting]]:
    """How the policy of a run can carry out its chunks: the actions that it executes of each, and the rest.

    An ensemble that executes one is that of ACT, which asks for a chunk at every step.
    """
    head = json.loads((run / "config.json").read_text())["head"]
    possible = [(head["execute"], Acting(ahead, join)) for join in JOINS for ahead in AHEAD]
    found = []
    for execute, acting in (*possible, (1, Acting(0, ENSEMBLE))):
        try:
            acting.check(head["predict"], execute)
        except UsageError:
            continue
        found.append((execute, acting))
    return found


def policy_of(run: Path, execute: int, acting: Acting) -> ActorFactory:
    return named_actor(str(run), acting=acting, overrides=[f"head.execute={execute}"])


def world_of(factory: ActorFactory, **kwargs: Any) -> WorldConfig:
    """A world for a policy."""
    needed = factory.world()
    assert needed is not None
    return WorldConfig.showing(needed, **kwargs)


# --- loading and latency --------------------------------------------------------------------------


def loading(run: Path, times: int = 5) -> list[dict[str, Any]]:
    """Seconds from a fresh process to a loaded policy, in parts; the median of several."""
    command = [sys.executable, "-c", LOADING.format(run=str(run))]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(times + 1)
    ]
    parts = np.median(np.array(said[1:], float), axis=0)  # the first one fills the disk's cache
    names = ("import_torch_s", "import_simreal_s", "load_s", "of_all_cpu_s")
    total = {"total_s": round(float(parts[:3].sum()), 3)}
    return [dict(zip(names, parts.round(3).tolist(), strict=True)) | total]


def latencies(run: Path, chunks: int) -> list[dict[str, Any]]:
    """Milliseconds of a chunk, computed in this process and by a server on this machine."""
    rows = [latency("here", named_actor(str(run)), chunks)]
    with served(run) as url:
        rows.append(latency("served", named_actor(url), chunks))
    return rows


@contextmanager
def served(run: Path) -> Any:
    """The address of a server process of a run."""
    program = "from simreal_cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", str(run), "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield "ws://" + server.stdout.readline().rpartition("ws://")[2].strip()
    finally:
        server.terminate()
        server.communicate()


def latency(where: str, factory: ActorFactory, chunks: int) -> dict[str, Any]:
    env = world_of(factory, max_steps=chunks).make("all")
    with closing(env), one_torch_thread():
        actor: Any = factory.make(env)
        observation, _ = env.reset(seed=seeds_for(SELECTION, 1)[0])
        times_ms = []
        for _ in range(chunks + 10):
            began_s = time.perf_counter()
            actor.predict(observation)
            times_ms.append(1000 * (time.perf_counter() - began_s))
    median, late = np.percentile(times_ms[10:], [50, 99])
    return {"where": where, "median_ms": round(float(median), 2), "p99_ms": round(float(late), 2)}


# --- where chunks meet ----------------------------------------------------------------------------


class Watched:
    """An actor that also notes at which steps of an episode a new chunk comes into use."""

    def __init__(self, actor: Any) -> None:
        self._actor, self.changes = actor, []  # type: ignore[var-annotated]

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
        before = None if state is None or episode_start[0] else state.chunks[-1].asked
        action, after = self._actor.predict(observation, state, episode_start, deterministic)
        self.changes.append(before is not None and after.chunks[-1].asked != before)
        return action, after


@dataclass
class Played:
    """An episode: the changes from each action to the next, and where a new chunk came into use."""

    success: bool
    moved_mm: list[float]
    turned_deg: list[float]
    bent_mm: list[float]
    """Second differences of the position."""
    is_change: list[bool]


def joins(run: Path, episodes: int, max_steps: int, workers: int) -> list[dict[str, Any]]:
    """Success, and what happens where chunks meet, for each way to carry them out."""
    rows = []
    for execute, acting in ways(run):
        make = partial(_make_player, run, execute, acting, max_steps)
        with closing(run_in_processes(make, list(seeds_for(SELECTION, episodes)), workers)) as playing:
            played: list[Played] = list(playing)
        rows.append({"execute": execute} | asdict(acting) | summary(played))
    return rows


def summary(played: Sequence[Played]) -> dict[str, Any]:
    change = np.concatenate([p.is_change for p in played])
    row: dict[str, Any] = {}
    for name, unit in (("moved", "mm"), ("turned", "deg")):
        each = np.concatenate([getattr(p, f"{name}_{unit}") for p in played])
        row[f"{name}_at_joins_{unit}"] = round(float(each[change].mean()), 3)
        row[f"{name}_at_joins_p95_{unit}"] = round(float(np.percentile(each[change], 95)), 3)
        row[f"{name}_between_{unit}"] = round(float(each[~change].mean()), 3)
        row[f"{name}_ratio"] = round(float(each[change].mean() / each[~change].mean()), 2)
    bent = np.concatenate([p.bent_mm for p in played])
    solved = sum(p.success for p in played)
    low, high = wilson_interval(solved, len(played))
    return row | {
        "bent_rms_mm": round(float(np.sqrt(np.mean(bent**2))), 3),
        "solved": solved,
        "episodes": len(played),
        "interval": [round(low, 3), round(high, 3)],
    }


def _make_player(
    run: Path, execute: int, acting: Acting, max_steps: int, stack: ExitStack
) -> Work[int, Played]:
    factory = policy_of(run, execute, acting)
    env = stack.enter_context(closing(world_of(factory, max_steps=max_steps).make("all")))
    return partial(_play, env, factory.make(env))


def _play(env: Any, policy: Any, seed: int, heartbeat: Heartbeat) -> Played:
    heartbeat()
    watched, actions = Watched(policy), []
    with one_torch_thread():
        outcome = run_episode(env, watched, seed=seed, recorder=lambda step: actions.append(step.action))
    taken = np.array(actions, float)
    moved = 1000 * np.diff(taken[:, :3], axis=0)
    rotations = Rotation.from_rotvec(taken[:, 3:6])
    turned = np.rad2deg((rotations[1:] * rotations[:-1].inv()).magnitude())
    bent = np.linalg.norm(np.diff(moved, axis=0), axis=1)
    steps = np.linalg.norm(moved, axis=1)
    return Played(outcome.success, steps.tolist(), turned.tolist(), bent.tolist(), watched.changes[1:])


# --- the rig --------------------------------------------------------------------------------------


def on_the_rig(run: Path, seconds: float, max_steps: int) -> list[dict[str, Any]]:
    """Late steps and late chunks in so many seconds of control, for each ``ahead``."""
    rows = []
    for execute, acting in ways(run):
        if acting.join == ENSEMBLE:
            continue
        factory = policy_of(run, execute, acting)
        world = world_of(factory, env="rig", max_steps=max_steps)
        late_s: list[float] = []
        interrupted = []
        seed = seeds_for(SELECTION, 1)[0]
        with closing(world.make("all")) as env, one_torch_thread():
            actor: Any = factory.make(env)
            while len(late_s) * PERIOD_S < seconds:
                steps: list[Step] = []
                outcome = run_episode(env, actor, seed=seed + len(interrupted), recorder=steps.append)
                late_s += [step.info["late_s"] for step in steps[1:]] + [outcome.info["late_s"]]
                interrupted.append(outcome.interrupted)
        late = np.array(late_s)
        rows.append(
            {
                "ahead": acting.ahead,
                "steps": len(late),
                "late_steps": int((late > LATE_S).sum()),
                "latest_ms": round(1000 * float(late.max()), 1),
                "late_chunks": actor.late_chunks,
                "episodes": len(interrupted),
                "interrupted": [cause for cause in interrupted if cause],
            }
        )
    return rows


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """As a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
