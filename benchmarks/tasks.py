"""Measures the tasks: experts, generation, learning, and the cost of their worlds.

    python benchmarks/tasks.py Lift Drawer --folder out/tasks --only expert generation

Figures go to docs/figures/tasks/<Task>.json, section by section; one that is there is not measured again.
Demonstrations and trainings go to the folder, and whatever it holds is used again.
`python benchmarks/tasks_page.py` makes docs/tasks.md of the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from simreal_agents.actors.experts import make_expert
from simreal_agents.evaluation.episode_log import EpisodeLog
from simreal_datasets.store.dataset import Dataset
from simreal_datasets.store.episode import Episode
from simreal_envs.loop import run_episode
from simreal_envs.tasks import TASKS, get_task
from simreal_envs.world_config import WorldConfig

FIGURES = Path(__file__).parent.parent / "docs" / "figures" / "tasks"
SIMREAL = str(Path(sys.executable).parent / "simreal")

EXPERT_SEEDS = 200
GENERATED = {"in": (200, 1000), "ood": (100, 5000)}
"""For each start region the number of generated demonstrations and their first seed."""
WITH_IMAGES = (40, 9000)
"""Number of demonstrations with the images of two cameras, which are only timed, and their first seed."""
TEST_EPISODES = 100
HOLD_STEPS = 20
"""After the last recorded action its target is held for a second."""
PATH_POINTS = 50

SETTINGS = ["--obs", "state", "--set", "threads=1"]
"""Of the policy."""
SETTINGS_OF = {
    "Square": [
        "--updates",
        "15000",
        *["--set", "head.kind=flow", "--set", "head.execute=8", "--set", "head.hidden=512"],
    ]
}
"""Further settings, chosen on selection seeds."""


def simreal(*arguments: str | Path) -> None:
    """Run a command of the program as a user does."""
    subprocess.run([SIMREAL, *map(str, arguments)], check=True)


def expert(task: str, folder: Path) -> dict[str, Any]:
    """Success of the scripted expert by style and start region."""
    figures: dict[str, Any] = {}
    for style in ("plain", "varied"):
        for region in ("in", "ood"):
            with closing(WorldConfig(task, obs="state").make(region)) as env:
                actor = make_expert(env, style)
                outcomes = [run_episode(env, actor, seed=seed) for seed in range(EXPERT_SEEDS)]
            figures.setdefault(style, {})[region] = {
                "solved": sum(outcome.success for outcome in outcomes),
                "episodes": len(outcomes),
                "median_steps": float(np.median([outcome.steps for outcome in outcomes])),
            }
    return figures


def generation(task: str, folder: Path) -> dict[str, Any]:
    """Success of generation from ten demonstrations of a varied expert, and what was generated."""
    ten = folder / "ten"
    simreal(
        "collect",
        ten,
        "--task",
        task,
        "--style",
        "varied",
        "--region",
        "in",
        "--obs",
        "state",
        "--episodes",
        "10",
    )
    figures: dict[str, Any] = {"demonstrations": variety(ten)}
    for region, (episodes, first_seed) in GENERATED.items():
        many = folder / region
        an_hour = generate(ten, many, episodes, first_seed, "--region", region, "--obs", "state")
        attempts = Dataset(many).infos[-1].meta["seed"] - first_seed + 1
        figures[region] = {
            "succeeded": episodes,
            "attempts": attempts,
            "an_hour": an_hour,
            **variety(many),
            "replayed_open_loop": replayed(task, many),
        }
    cameras = ("--obs", "image", "--cameras", "agentview+wrist")
    figures["with_images_an_hour"] = generate(ten, folder / "images", *WITH_IMAGES, *cameras)
    return figures


def generate(ten: Path, many: Path, episodes: int, first_seed: int, *options: str) -> int | None:
    """Generate a dataset; returns demonstrations an hour, or None where a part of it was there already."""
    began, was_there = time.perf_counter(), many.exists()
    simreal("generate", ten, many, "--episodes", str(episodes), "--seed", str(first_seed), *options)
    return None if was_there else round(3600 * episodes / (time.perf_counter() - began))


def variety(dataset: Path) -> dict[str, Any]:
    """How much the demonstrations of a dataset differ: their starts, lengths and paths of the hand.

    ``nearest_path_mm`` is the median over the demonstrations of the distance to the one that is most alike:
    the mean distance of the hand at :data:`PATH_POINTS` moments, evenly spaced in time.
    """
    stored = Dataset(dataset)
    episodes = [stored.read(i, keys=["robot0_eef_pos", "object"]) for i in range(len(stored.infos))]
    paths = np.stack([_path(episode) for episode in episodes])
    lengths_m = [
        float(np.linalg.norm(np.diff(e.observations["robot0_eef_pos"], axis=0), axis=1).sum())
        for e in episodes
    ]
    starts = np.stack([episode.observations["object"][0, :2] for episode in episodes])
    apart = np.linalg.norm(paths[:, None] - paths[None], axis=3).mean(2) + np.diag(
        np.full(len(paths), np.inf)
    )
    return {
        "start_sd_mm": [round(1000 * float(sd), 1) for sd in starts.std(0)],
        "steps": _quantiles([len(episode) for episode in episodes]),
        "path_m": _quantiles(lengths_m),
        "nearest_path_mm": round(1000 * float(np.median(apart.min(1))), 1),
    }


def _path(episode: Episode) -> np.ndarray:
    hand = episode.observations["robot0_eef_pos"]
    moments = np.linspace(0, len(hand) - 1, PATH_POINTS)
    return np.stack([np.interp(moments, np.arange(len(hand)), axis) for axis in hand.T], axis=1)


def _quantiles(values: list[float] | list[int]) -> list[float]:
    """The 5 %, 50 % and 95 % quantiles."""
    return [round(float(q), 3) for q in np.quantile(values, [0.05, 0.5, 0.95])]


def replayed(task: str, dataset: Path) -> int:
    """How many demonstrations solve the task again by their recorded actions alone, from the same start."""
    stored, solved = Dataset(dataset), 0
    with closing(WorldConfig(task, obs="state").make(stored.infos[0].meta["region"])) as env:
        for index, info in enumerate(stored.infos):
            episode = stored.read(index, keys=["robot0_eef_pos"])
            observation, _ = env.reset(seed=info.meta["seed"])
            assert np.allclose(
                observation["robot0_eef_pos"], episode.observations["robot0_eef_pos"][0], atol=1e-6
            )
            actions = [*episode.actions, *[episode.actions[-1]] * HOLD_STEPS]
            solved += any(env.step(action)[2] for action in actions)
    return solved


def learning(task: str, folder: Path) -> dict[str, Any]:
    """Success in distribution of a policy that was trained on the generated demonstrations of that region."""
    run, results = folder / "policy", folder / "test"
    settings = [*SETTINGS, *SETTINGS_OF.get(task, [])]
    began = time.perf_counter()
    if (run / "checkpoints").exists():
        simreal("train", run, "--resume")
        minutes = None
    else:
        simreal("train", run, "--source", folder / "in", "--method", "source", *settings)
        minutes = round((time.perf_counter() - began) / 60, 1)
    simreal("eval", run, "--region", "in", "--episodes", str(TEST_EPISODES), "--output", results)
    with EpisodeLog(results) as log:
        played = log.results
    return {
        "settings": " ".join(settings),
        "train_minutes": minutes,
        "solved": sum(result.success for result in played),
        "episodes": len(played),
        "failed_at": dict(Counter(result.failed_at for result in played if not result.success)),
        "median_steps": float(np.median([result.steps for result in played])),
    }


def world(task: str, folder: Path) -> dict[str, Any]:
    """Steps a second, memory, and whether two processes play the same episode bit for bit."""
    figures: dict[str, Any] = {}
    for obs in ("state", "image"):
        runs = []
        for _ in range(2):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                runs.append(pool.submit(_play, task, obs).result())
        digests, rates, memories = zip(*runs, strict=True)
        figures[obs] = {
            "steps_a_second": round(max(rates)),
            "memory_mb": round(max(memories)),
            "deterministic": len({*digests}) == 1,
        }
    return figures


def _play(task: str, obs: str) -> tuple[str, float, float]:
    """Digest of an episode of the expert, steps a second, and the process's greatest memory in MB."""
    digest = hashlib.sha256()
    with closing(WorldConfig(task, obs=obs).make("all")) as env:
        actor = make_expert(env)
        for seed in range(3):
            steps, began = 0, time.perf_counter()
            observation, _ = env.reset(seed=seed)
            state, done = None, False
            while not done:
                action, state = actor.predict(observation, state)
                observation, _, terminated, truncated, _ = env.step(action)
                for name in sorted(observation):
                    digest.update(np.ascontiguousarray(observation[name]).tobytes())
                steps, done = steps + 1, terminated or truncated
            rate = steps / (time.perf_counter() - began)
    peak_kB = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak_kB is not None
    return digest.hexdigest(), rate, int(peak_kB[1]) / 1024


SECTIONS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "expert": expert,
    "generation": generation,
    "world": world,
    "learning": learning,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="all tasks if none is named")
    parser.add_argument("--folder", type=Path, default=Path("out/tasks"))
    parser.add_argument("--only", nargs="*", choices=[*SECTIONS], default=[*SECTIONS])
    arguments = parser.parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    for task in arguments.tasks or TASKS.names():
        path = FIGURES / f"{get_task(task).name}.json"
        for section in arguments.only:
            figures = json.loads(path.read_text()) if path.exists() else {}
            if section not in figures:
                figures[section] = SECTIONS[section](task, arguments.folder / task)
                path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
            print(task, section, json.dumps(figures[section]), flush=True)


if __name__ == "__main__":
    main()
