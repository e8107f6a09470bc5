"""What an evaluation says: success with intervals, paired tests, and the stage at which episodes failed."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from simreal_agents.evaluation.episode_log import EpisodeResult
from simreal_agents.evaluation.footing import Played, on_equal_footing
from simreal_agents.evaluation.statistics import (
    PairedTest,
    TrainingTest,
    compare_trainings,
    holm,
    mcnemar,
    wilson_interval,
)
from simreal_envs.errors import unknown
from simreal_envs.seeds import SEEDS, SELECTION, describe
from simreal_envs.spec import check_choice


@dataclass(frozen=True)
class Cell:
    """Successes of one policy in one region, with the 95 % Wilson interval of the rate (fractions)."""

    name: str
    region: str
    successes: int
    trials: int
    low: float
    high: float
    failed_at: dict[str, int]
    """How many episodes failed at each stage."""
    interrupted: int = 0
    """How many of the failed ones a fault broke off."""
    trainings: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Successes and trials of each training, by its random seed, if several are pooled."""
    actors: list[str] = field(default_factory=list)
    """What exactly was played, see :class:`simreal_agents.evaluation.episode_log.EpisodeResult`."""

    @property
    def rate(self) -> float:
        """Fraction of episodes solved."""
        return self.successes / self.trials

    @property
    def checkpoint(self) -> str:
        """The number of training updates of the policy; for an actor that is not trained, its name."""
        return ", ".join(dict.fromkeys(_checkpoint(actor) for actor in self.actors))

    def of_training(self, seed: int) -> str:
        """Successes and episodes ``k/n`` of one training; empty if that training was not pooled."""
        return "/".join(map(str, self.trainings.get(seed, ())))

    def __str__(self) -> str:
        interval = f"[{100 * self.low:.0f}, {100 * self.high:.0f}]"
        return f"{self.successes}/{self.trials} = {100 * self.rate:.0f} % {interval}"


@dataclass(frozen=True)
class Comparison:
    """The paired test of two policies in one region.

    Attributes:
        p_adjusted: p-value after Holm's correction for all tests of the report.
        trainings: the same with a training as the unit, if several are pooled.
    """

    first: str
    second: str
    region: str
    test: PairedTest
    p_adjusted: float
    trainings: TrainingTest | None = None


@dataclass(frozen=True)
class Report:
    """The tables of an evaluation of several policies in one world.

    Attributes:
        world: task, env, shift, robot and largest number of steps.
        seeds: the reset seeds, and what they are for.
        notes: what else a reader has to know, a sentence or two each.
    """

    world: str
    seeds: str
    cells: list[Cell]
    comparisons: list[Comparison]
    notes: list[str] = field(default_factory=list)

    def cell(self, name: str, region: str) -> Cell:
        """The cell of a policy and a region.

        Raises:
            UsageError: there is none; lists those that are.
        """
        for cell in self.cells:
            if (cell.name, cell.region) == (name, region):
                return cell
        there = (f"{cell.name} in {cell.region!r}" for cell in self.cells)
        raise unknown("cell of the report", f"{name} in {region!r}", there)

    def print(self, console: Console) -> None:
        """Print the tables."""
        for title, header, rows in self._tables():
            table = Table(*header)
            for row in rows:
                table.add_row(*row)
            console.print(f"[bold]{escape(title)}[/]", table, sep="\n", highlight=False)
        for note in self.notes:
            console.print(escape(note), highlight=False)

    def to_markdown(self) -> str:
        """The same tables as Markdown."""
        parts = []
        for title, header, rows in self._tables():
            lines = [header, ["---"] * len(header), *rows]
            parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
        return "\n".join([*parts, *(f"{note}\n" for note in self.notes)])

    def write(self, folder: Path) -> None:
        """Write ``report.md``, ``summary.json`` and ``summary.csv``."""
        (folder / "report.md").write_text(self.to_markdown())
        (folder / "summary.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        with (folder / "summary.csv").open("w", newline="") as file:
            columns = ["name", "region", "successes", "trials", "rate", "low", "high", "checkpoint"]
            writer = csv.writer(file)
            writer.writerow([*columns, "seeds", "world"])
            for cell in self.cells:
                writer.writerow([*(getattr(cell, column) for column in columns), self.seeds, self.world])

    def _tables(self) -> Iterable[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows of each table."""
        names = list(dict.fromkeys(cell.name for cell in self.cells))
        regions = list(dict.fromkeys(cell.region for cell in self.cells))
        yield (
            f"Success in {self.world}; reset seeds {self.seeds}; 95 % Wilson interval",
            ["policy", "checkpoint", *regions],
            [
                [name, self.cell(name, regions[0]).checkpoint]
                + [str(self.cell(name, region)) for region in regions]
                for name in names
            ],
        )
        if self.comparisons:
            yield (
                "Exact McNemar test on the same episodes; discordant: only first : only second succeeded",
                ["first", "second", "region", "points", "discordant", "p", "p (Holm)"],
                [
                    [
                        c.first, c.second, c.region, f"{100 * c.test.difference:+.0f}",
                        f"{c.test.only_first} : {c.test.only_second}", _p(c.test.p_value), _p(c.p_adjusted),
                    ]
                    for c in self.comparisons
                ],
            )  # fmt: skip
        if seeds := sorted({seed for cell in self.cells for seed in cell.trainings}):
            yield (
                "Each training by itself, by its random seed",
                ["policy", "region", *(str(seed) for seed in seeds)],
                [[c.name, c.region, *(c.of_training(seed) for seed in seeds)] for c in self.cells],
            )
        if over_trainings := [(c, c.trainings) for c in self.comparisons if c.trainings]:
            yield (
                "Paired t-test over trainings: would further trainings differ too?",
                ["first", "second", "region", "points, 95 % interval", "p", "p (Holm)"],
                [
                    [
                        c.first, c.second, c.region,
                        f"{100 * t.difference:+.0f} [{100 * t.low:+.0f}, {100 * t.high:+.0f}]",
                        _p(t.p_value), _p(adjusted),
                    ]
                    for (c, t), adjusted in zip(
                        over_trainings, holm([t.p_value for _, t in over_trainings]), strict=True
                    )
                ],
            )  # fmt: skip
        stages = list(dict.fromkeys(stage for cell in self.cells for stage in cell.failed_at))
        if any(sum(cell.failed_at.values()) for cell in self.cells):
            broken = ["interrupted"] if any(cell.interrupted for cell in self.cells) else []
            yield (
                "Episodes that failed, by the first stage not reached",
                ["policy", "region", *stages, *broken],
                [
                    [c.name, c.region, *(str(c.failed_at[stage]) for stage in stages)]
                    + [str(c.interrupted) for _ in broken]
                    for c in self.cells
                ],
            )


def report(
    results: Sequence[EpisodeResult],
    stages: Sequence[str],
    compare: Sequence[tuple[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Summarise results of one world.

    Args:
        results: as :func:`simreal_agents.evaluation.play.evaluate` returns them.
        stages: of the task, in order.
        compare: pairs of policies that are compared; None compares the first policy with every other.
        notes: what the reader has to know besides.

    Raises:
        UsageError: the results are not on equal footing, see :func:`on_equal_footing`, or a pair names a
            policy that is not there.
    """
    played = on_equal_footing(results)
    names = list(dict.fromkeys(name for name, _ in played))
    compare = [(names[0], name) for name in names[1:]] if compare is None else compare
    for name in (name for pair in compare for name in pair):
        check_choice("policy of a comparison", name, names)
    cells = {key: _cell(*key, list(of.values()), stages) for key, of in played.items()}
    pairs = [
        (first, second, region, _paired(played[first, region], played[second, region]))
        for region in dict.fromkeys(region for _, region in played)
        for first, second in compare
    ]
    adjusted = holm([test.p_value for *_, test in pairs])
    comparisons = [
        Comparison(
            first, second, region, test, p,
            _over_trainings(cells[first, region].trainings, cells[second, region].trainings),
        )
        for (first, second, region, test), p in zip(pairs, adjusted, strict=True)
    ]  # fmt: skip
    if any(result.seed in SEEDS[SELECTION] for result in results):
        notes = [*notes, CHOSEN_ON_THESE]
    return Report(_world(results[0]), _seeds(played), list(cells.values()), comparisons, list(notes))


CHOSEN_ON_THESE = (
    "Checkpoints and settings are chosen on selection seeds, so rates on them flatter what was chosen: "
    "compare policies on test seeds."
)


def _world(result: EpisodeResult) -> str:
    robot = f", robot {result.robot}" if result.robot else ""
    return f"{result.task}, env {result.env}{robot}, shift {result.shift}, at most {result.max_steps} steps"


def _seeds(played: Played) -> str:
    """All reset seeds; each region's where they differ."""
    regions: dict[str, set[int]] = {}
    for (_, region), of in played.items():
        regions.setdefault(region, set()).update(seed for _, seed in of)
    said = {region: describe(seeds) for region, seeds in regions.items()}
    if len(set(said.values())) == 1:
        return said[next(iter(said))]
    return "; ".join(f"{region}: {seeds}" for region, seeds in said.items())


def _checkpoint(actor: str) -> str:
    """The update of a trained policy, ``0006000-<digest>`` (:mod:`simreal_agents.actors.factories`)."""
    trained, _, acting = actor.partition(" ")
    updates, _, digest = trained.partition("-")
    return f"{int(updates)} {acting}".rstrip() if updates.isdigit() and digest else actor


def pool(results: Iterable[EpisodeResult], method_of: Mapping[str, tuple[str, int]]) -> list[EpisodeResult]:
    """Count several trainings of one method as one policy.

    Args:
        results: of policies named as in ``method_of``.
        method_of: for each policy its method, and which training of it (its random seed): episodes of
            equal training and reset seed are paired.
    """
    return [
        replace(result, name=method_of[result.name][0], replicate=method_of[result.name][1])
        for result in results
    ]


def _cell(name: str, region: str, results: Sequence[EpisodeResult], stages: Sequence[str]) -> Cell:
    successes = sum(result.success for result in results)
    failed = Counter(result.failed_at for result in results if not result.success)
    low, high = wilson_interval(successes, len(results))
    failed_at = {stage: failed[stage] for stage in stages}
    interrupted = sum(bool(result.interrupted) for result in results)
    trainings = {}
    for seed in sorted({result.replicate for result in results}):
        of_seed = [result.success for result in results if result.replicate == seed]
        trainings[seed] = sum(of_seed), len(of_seed)
    if len(trainings) == 1:
        trainings = {}
    actors = list(dict.fromkeys(result.actor for result in results))
    return Cell(name, region, successes, len(results), low, high, failed_at, interrupted, trainings, actors)


def _paired(
    first: Mapping[tuple[int, int], EpisodeResult], second: Mapping[tuple[int, int], EpisodeResult]
) -> PairedTest:
    return mcnemar([first[key].success for key in first], [second[key].success for key in first])


def _over_trainings(
    first: Mapping[int, tuple[int, int]], second: Mapping[int, tuple[int, int]]
) -> TrainingTest | None:
    """None where nothing is pooled; the test of episodes has made sure that both have the same seeds."""
    if not first:
        return None
    return compare_trainings([k / n for k, n in first.values()], [k / n for k, n in second.values()])


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
