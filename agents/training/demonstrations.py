"""Which demonstrations a run is trained on, and which are held out to judge it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from simreal_agents.policies.config import TrainConfig
from simreal_agents.policies.methods import METHODS
from simreal_datasets.loading.frames import Frames, held_out, spec_of
from simreal_envs.errors import DataError, UsageError

VALIDATION = "validation_"
"""Before a domain's name: its episodes that are held out."""


def load_domains(
    config: TrainConfig, files: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> tuple[Frames | None, Frames | None]:
    """The demonstrations the method uses, cut to their budgets.

    Args:
        files: names of the episodes' files of a domain (``source``, ``target``), to read exactly these.

    Raises:
        UsageError: a dataset that is not named, a budget that it cannot meet, or a mask that it has not.
        DataError: a dataset that cannot be used, two of different worlds, or a file missing or damaged.
    """
    method, data, shown = METHODS[config.method], config.data, config.observation.spec
    domains = {
        "source": (method.uses_source, data.source, data.source_demos, data.source_episodes),
        "target": (method.uses_target, data.target, data.target_demos, data.target_episodes),
    }
    for domain, (used, path, *_) in domains.items():
        if used and not path:
            raise UsageError(
                f"Method {config.method!r} needs a {domain} dataset: give --{domain} (data.{domain})."
            )
    if method.uses_source and method.uses_target:  # before anything of them is decoded
        source, target = (spec_of(path, shown) for path in (data.source, data.target))
        if differing := source.differences(target):
            raise DataError(f"Target dataset {data.target} does not fit the source: {', '.join(differing)}.")
    return tuple(  # type: ignore[return-value]
        Frames.load(path, budget, config.seed, files.get(domain), which, shown) if used else None
        for domain, (used, path, budget, which) in domains.items()
    )


def load_held_out(
    config: TrainConfig,
    trained: Mapping[str, Frames],
    files: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Frames]:
    """The demonstrations, by domain, that training never sees; domains without any are absent.

    Args:
        trained: the demonstrations that are trained on, by domain.
        files: names of the episodes' files of each domain, to read exactly these.

    Raises:
        UsageError: a mask that is not there, or that holds episodes which are trained on.
        DataError: an episode is missing or damaged.
    """
    data, shown, found = config.data, config.observation.spec, {}
    if data.validation_demos == 0:
        return {}
    domains = {
        "source": (data.source, data.source_episodes, data.source_validation),
        "target": (data.target, data.target_episodes, data.target_validation),
    }
    for domain, frames in trained.items():
        path, among, which = domains[domain]
        if files is None:
            names = held_out(path, frames.files, data.validation_demos, config.seed, among, which)
        else:
            names = [*files.get(domain, ())]
        if names:
            found[domain] = Frames.load(path, files=names, shown=shown)
    return found
