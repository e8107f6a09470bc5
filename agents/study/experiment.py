"""An experiment compares methods: demonstrations, trainings, evaluations, tables and pictures in one call.

Every step continues what an earlier call left in the folder, so an experiment can be interrupted anywhere
and run in pieces::

    folder/experiment.json  the settings that decide the data
    folder/human      the human demonstration, or ten of the expert where the task has none
    folder/source     demonstrations generated from it
    folder/target     demonstrations recorded in the other world
    folder/runs       <method>-<training seed>
    folder/validation episodes of every checkpoint: the learning curves
    folder/test       other episodes, of each method's chosen checkpoint and its last
    folder/pictures   folder/report.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from simreal_agents.actors.factories import Expert
from simreal_agents.evaluation.report import Report
from simreal_agents.policies.checkpoint import write_json
from simreal_agents.policies.config import TrainConfig, config_values, load_config
from simreal_agents.progress import shown_attempts
from simreal_agents.study.collect import ActorRecorder
from simreal_agents.study.pictures import success_over_updates
from simreal_agents.study.selection import best_checkpoints
from simreal_agents.training.train_all import train_all
from simreal_datasets.making.fetch import fetch_demonstrations
from simreal_datasets.making.fill import Recipe, fill_dataset
from simreal_datasets.making.generate import Generator
from simreal_datasets.making.robosuite_import import import_demonstrations
from simreal_datasets.store.dataset import DatasetWriter
from simreal_envs.errors import DataError, UsageError
from simreal_envs.parallel import available_cores
from simreal_envs.seeds import DEMONSTRATIONS, SELECTION, TEST, seeds_for
from simreal_envs.shifts import STAND_IN, expanded
from simreal_envs.spec import check_choice
from simreal_envs.tasks import get_task
from simreal_envs.world_config import WorldConfig
from simreal_envs.wrappers import check_noise

EXPERT_DEMOS = 10
"""Demonstrations of the expert where there is no human's."""
TARGET_SEED = 500_000
"""Target demonstrations start from other seeds than source ones."""
DATA_FIELDS = ("task", "env", "shift", "obs", "source_demos", "target_demos", "noise_m")
"""What must stay the same in one folder, so that every training and test in it is of the same data."""
MEANT_BEFORE = {"obs": "image"}
"""What a description without the key meant, since it was written before the key existed."""
COUNTS = ("updates", "checkpoint_every", "validation_episodes", "test_episodes")
SET_HERE = (
    "method", "seed", "optim.updates", "checkpoint_every",
    "data.source", "data.target", "data.source_demos", "data.target_demos",
)  # fmt: skip
"""Settings of a training that only the experiment may set, because the names of runs depend on them."""


@dataclass(frozen=True)
class Experiment:
    """The settings of an experiment: which methods are compared, on which data, in which world.

    Attributes:
        task: name of the task.
        methods: rows of :data:`METHODS`; the first is compared with each other.
        seeds: training seeds of every method.
        shift: how the target world looks; the source is unshifted.
        env: what the target world is: ``sim``, or ``rig``, which runs in real time over the robot's protocol.
        obs: what demonstrations show; ``observation.obs`` in the overrides says what a policy reads of it.
        source_demos, target_demos: demonstrations of each domain, the same for every method.
        noise_m: disturbance of the arm in all demonstrations, which show how to recover from it.
        updates: training updates, the same for every method.
        checkpoint_every: updates between the points of the learning curve.
        validation_episodes: rollouts a checkpoint, region and training seed, always in simulation.
        test_episodes: rollouts of the chosen checkpoint and of the last, in the target world.
        max_steps: rollouts end after so many steps.
        overrides: ``key=value`` settings of :class:`TrainConfig`, for every method that has the key.
        preset: settings that the overrides start from.
        test_checkpoint: updates after which every method is tested, in place of a chosen checkpoint.

    Raises:
        UsageError: an unknown task, env, shift, method, preset or setting, a number out of range, or an
            override of what the experiment sets itself.
    """

    task: str
    methods: tuple[str, ...] = ("uot", "cotrain")
    seeds: tuple[int, ...] = (0,)
    shift: str = STAND_IN
    env: str = "sim"
    obs: str = "image"
    source_demos: int = 800
    target_demos: int = 20
    noise_m: float = 0.01
    updates: int = 4000
    checkpoint_every: int = 1000
    validation_episodes: int = 25
    test_episodes: int = 100
    max_steps: int = 200
    overrides: tuple[str, ...] = field(default_factory=tuple)
    preset: str = "cpu-image"
    test_checkpoint: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", expanded(self.shift))
        check_noise(self.noise_m)
        for name in (*COUNTS, "source_demos", "target_demos"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)}: at least 1 is needed.")
        for name in ("methods", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} = {', '.join(map(str, values))}: at least one, and none twice.")
        for override in self.overrides:
            if override.partition("=")[0].strip() in SET_HERE:
                raise UsageError(f"{override}: the experiment sets {', '.join(SET_HERE)} itself.")
        if self.test_checkpoint is not None:
            check_choice("checkpoint to test", str(self.test_checkpoint), map(str, checkpoints(self)))
        _ = self.target_world, self.configs(Path()), self.selection_seeds, self.test_seeds
        seeds_for(DEMONSTRATIONS, self.target_demos, TARGET_SEED)
        if self.source_demos > TARGET_SEED:
            raise UsageError(
                f"source_demos = {self.source_demos} would come to the seeds of target demonstrations, "
                f"which start at {TARGET_SEED}."
            )

    @property
    def selection_seeds(self) -> range:
        """Reset seeds on which checkpoints are chosen."""
        return seeds_for(SELECTION, self.validation_episodes)

    @property
    def test_seeds(self) -> range:
        """Reset seeds on which they are compared."""
        return seeds_for(TEST, self.test_episodes)

    @property
    def target_world(self) -> WorldConfig:
        """Where the target demonstrations are recorded, and policies judged."""
        return WorldConfig(self.task, self.env, self.shift, self.obs, max_steps=self.max_steps)

    @property
    def validation_world(self) -> WorldConfig:
        """Where checkpoints are chosen: it looks like the target world, and is faster than real time."""
        return replace(self.target_world, env="sim")

    def config(self, folder: Path, method: str, seed: int) -> TrainConfig:
        """The configuration of one training; its paths are absolute, from wherever it is continued."""
        folder = folder.resolve()
        return load_config(
            self.preset,
            method,
            [
                f"data.source={folder / 'source'}",
                f"data.target={folder / 'target'}",
                f"data.source_demos={self.source_demos}",
                f"data.target_demos={self.target_demos}",
                f"optim.updates={self.updates}",
                f"checkpoint_every={self.checkpoint_every}",
                f"seed={seed}",
                "threads=1",
                *self.overrides_of(method),
            ],
        )

    def overrides_of(self, method: str) -> list[str]:
        """The overrides for a method: without keys that only other methods of the experiment have."""
        keys = {override: override.partition("=")[0].strip() for override in self.overrides}
        kinds = [override for override, key in keys.items() if key.endswith(".kind")]
        has = {each: config_values(load_config(self.preset, each, kinds)) for each in self.methods}
        known = {key for values in has.values() for key in values}
        return [override for override, key in keys.items() if key in has[method] or key not in known]

    def configs(self, folder: Path) -> dict[Path, TrainConfig]:
        """The configuration of every training, by the folder of its run."""
        return {
            folder / "runs" / name: self.config(folder, method, seed)
            for name, method, seed in self.trainings()
        }

    def trainings(self) -> Iterator[tuple[str, str, int]]:
        """(name of the run, method, training seed), seed by seed, so that a part is already a comparison."""
        for seed in self.seeds:
            for method in self.methods:
                yield f"{method}-{seed}", method, seed


def run_experiment(experiment: Experiment, folder: Path, console: Console) -> Report:
    """Run, or continue, every step; returns the final report, which is also in ``folder``.

    Raises:
        SimrealError: a step cannot be done; says why.
        KeyboardInterrupt: everything finished so far is kept.
    """
    from simreal_agents.study.experiment_pictures import draw_domains, draw_features, draw_plan
    from simreal_agents.study.experiment_rollouts import final_test, validate

    pictures = folder / "pictures"
    claim_folder(experiment, folder)
    with _step(console, "Demonstrations"):
        prepare_data(experiment, folder, console)
        draw_domains(folder, pictures / "domains.png")
    with _step(console, "Training, one run a core"):
        train_all(experiment.configs(folder), console)
    with _step(console, "Success over training"):
        curves = validate(experiment, folder)
        chosen = best_checkpoints(curves)
        marked = chosen if experiment.test_checkpoint is None else {}
        success_over_updates(curves, pictures / "success_over_updates.png", marked)
    with _step(console, "Final test of each method's chosen checkpoint and of its last"):
        final = final_test(experiment, folder, chosen)
        draw_features(experiment, folder, pictures / "features.png")
        if "uot" in experiment.methods:
            draw_plan(folder, f"uot-{experiment.seeds[0]}", pictures / "transport_plan.png")
    final.print(console)
    final.write(folder)
    console.print(f"Report: {folder / 'report.md'}    Pictures: {pictures}")
    return final


def claim_folder(experiment: Experiment, folder: Path) -> None:
    """Write down what the data of this folder are; more methods, seeds and episodes may come later.

    Raises:
        UsageError: the folder holds an experiment with other data.
        DataError: its description is damaged.
    """
    file = folder / "experiment.json"
    wanted = {name: getattr(experiment, name) for name in DATA_FIELDS}
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
        return
    try:
        there = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}") from error
    if not isinstance(there, dict):
        raise DataError(f"{file} is damaged: it holds no JSON object.")
    there = MEANT_BEFORE | there
    if missing := [name for name in wanted if name not in there]:
        raise DataError(
            f"{file} lacks {', '.join(missing)}, so what its data are is not known: use another folder."
        )
    changed = [f"{name}: {there[name]} -> {wanted[name]}" for name in wanted if there[name] != wanted[name]]
    if changed:
        raise UsageError(
            f"{folder} holds an experiment with other data ({'; '.join(changed)}); use another folder."
        )


def prepare_data(experiment: Experiment, folder: Path, console: Console) -> None:
    """Fetch and import the human demonstration, generate the source, record the target.

    Where no human has demonstrated, the scripted expert does, in another manner each time.

    Nobody can teleoperate in the stand-in for the real world, so the same motion is replayed there:
    moved to each scene, executed, seen through that world's camera.
    """
    human = folder / "human"
    if not get_task(experiment.task).human_demonstrations:
        expert = ActorRecorder(WorldConfig(experiment.task, obs="state"), "all", factory=Expert("varied"))
        _fill(human, expert, EXPERT_DEMOS, 0, 1, console)
    elif not any(human.glob("episode_*.hdf5")):
        file = fetch_demonstrations([experiment.task])[experiment.task]
        with DatasetWriter(human) as writer:
            for episode in import_demonstrations(file, experiment.task):
                writer.add(episode)
    workers = available_cores()
    noise_m = experiment.noise_m
    source = Generator(human, WorldConfig(experiment.task, obs=experiment.obs), "all", noise_m=noise_m)
    _fill(folder / "source", source, experiment.source_demos, 0, workers, console)
    target = Generator(human, experiment.target_world, "in", noise_m=noise_m)
    workers = experiment.target_world.workers or workers
    _fill(folder / "target", target, experiment.target_demos, TARGET_SEED, workers, console)


def _fill(path: Path, recipe: Recipe, episodes: int, seed: int, workers: int, console: Console) -> None:
    attempts = fill_dataset(path, recipe, episodes, seed, workers)
    with closing(shown_attempts(attempts, path, episodes, console)) as shown:
        solved = sum(attempt.episode is not None for attempt in shown)
    if solved:
        console.print(f"{path}: {solved} episodes")


def checkpoints(experiment: Experiment) -> list[int]:
    """Updates after which every run has a checkpoint."""
    return [
        *range(experiment.checkpoint_every, experiment.updates, experiment.checkpoint_every),
        experiment.updates,
    ]


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    console.rule(f"[bold]{title}", align="left")
    yield
