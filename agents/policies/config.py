"""The configuration of a training run: small dataclasses, presets as files, every value overridable.

``load_config("cpu-image", "uot", ["alignment.tau=0.5"])`` reads a preset, then the preset's settings for that
method, then the overrides. A key that does not exist and a value of another type are errors.

Encoders, heads and alignments are choices: ``head.kind`` says which, and the choice decides what other keys
there are. An encoder and a head declare theirs in their class, as ``Settings``. The method decides
``alignment.kind``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from simreal_agents.policies.alignments import ALIGNMENTS, AlignmentConfig
from simreal_agents.policies.encoders import EncoderConfig
from simreal_agents.policies.heads import HEADS, Head
from simreal_agents.policies.methods import METHODS, method_that_aligns_by
from simreal_agents.policies.overrides import (
    NOT_NEGATIVE,
    Choice,
    Count,
    Limit,
    Positive,
    assign_all,
    complete,
    flatten,
    plain,
    split_override,
)  # fmt: skip
from simreal_agents.policies.presets import Layer, read_preset
from simreal_envs.errors import UsageError
from simreal_envs.features import ObservationSpec
from simreal_envs.spec import check_choice


@dataclass
class DataConfig:
    """Where the demonstrations are, and how many of them may be used."""

    source: str = ""
    """Dataset folder of the source domain."""
    target: str = ""
    """Dataset folder of the target domain."""
    source_demos: int | None = None
    """Budget of source demonstrations; null: all."""
    target_demos: int | None = None
    """Budget of target demonstrations; null: all. Binds cloning, pairing and alignment alike."""
    source_episodes: str = "success"
    """Which source episodes are demonstrations: success, all (failed and interrupted ones too), or a
    robomimic filter key of the dataset: the name of a list under mask/ in its dataset.hdf5."""
    target_episodes: str = "success"
    """Which target episodes are demonstrations."""
    validation_demos: Annotated[int, NOT_NEGATIVE] = 10
    """At every checkpoint the cloning loss on so many held-out episodes of each domain is logged, on fewer if
    there are not as many; 0: none. Training does not see them."""
    source_validation: str = "rest"
    """Which source episodes are held out: rest (those of source_episodes that the budget leaves over), or a
    robomimic filter key such as valid, none of whose episodes may be trained on."""
    target_validation: str = "rest"
    """Which target episodes are held out."""


@dataclass
class BatchConfig:
    """How many frames one update takes, in which shares; a method with one domain gives it all shares."""

    size: Count = 64
    """Samples of behaviour cloning."""
    source_paired: float = 0.0
    """Share drawn from source demonstrations that resemble the target's (by the pairing weights)."""
    source_unpaired: float = 0.875
    """Share drawn uniformly from all source frames."""
    target: float = 0.125
    """Share drawn uniformly from the target frames."""
    alignment_size: Count = 48
    """Samples for the alignment, of each domain, in addition to those of behaviour cloning."""


@dataclass
class ObservationConfig:
    """What the policy reads of the world beside ``head.proprioception``; each array has its own encoder."""

    obs: str = "image"
    """Joined by +: image, depth, pointcloud, pointcolour (of the points) and state."""
    cameras: str = "agentview"
    """Whose images and depths, joined by +: agentview, wrist."""
    points: Count | None = None
    """Of a point cloud; null: as many as the demonstrations have."""
    history: int = 1
    """Number of moments that the policy sees, including the present one."""

    @property
    def spec(self) -> ObservationSpec:
        """These choices as an :class:`ObservationSpec`; the image sizes are those of the demonstrations."""
        return ObservationSpec.parse(self.obs, cameras=self.cameras, history=self.history)


@dataclass
class AugmentConfig:
    """Random changes of each training image."""

    shift_px: int = 1
    """Shift by up to so many pixels, edges repeated. A pixel is several millimetres on the table, while the
    demonstrated action stays as it is, so larger shifts make it wrong."""
    brightness: float = 0.2
    """Factor drawn from 1 +- this."""
    contrast: float = 0.2
    """Factor around mid-grey, from 1 +- this."""
    saturation: float = 0.2
    """Factor around the pixel's grey, from 1 +- this."""
    hue_rad: float = 0.0
    """Rotation of the colours about the grey axis, up to +- this."""


@dataclass
class PairingConfig:
    """Which source frames are shown to the alignment with which target frames."""

    kind: Literal["temporal", "none", "oracle"] = "temporal"
    """temporal: demonstrations with similar paths, and in them frames that match in time (dynamic time
    warping). oracle: as temporal, but demonstrations whose objects truly start close to each other, which
    only simulated demonstrations tell; an upper bound. none: independent uniform frames."""
    path: Literal["commanded", "executed"] = "commanded"
    """Which path of the end effector is compared: where it was sent, or where it went (as published). If the
    arm lags or is disturbed, the path that it went does not show where the demonstrator wanted to go."""
    weights: Literal["quantile", "metres"] = "quantile"
    """How the cutoff is given: as a quantile of the distances, or in metres."""
    sharpness: float = 5.0
    """k of w = 1 / (1 + exp(k (d - c))): relative to c for quantile, in 1/m for metres."""
    cutoff: float = 0.005
    """c."""
    window: int = 2
    """The source frame lies at most so many frames from the match of the target frame."""


@dataclass
class OptimConfig:
    """AdamW with a linear warm-up and a cosine to zero."""

    updates: Count = 6000
    """Length of the run."""
    learning_rate: Positive = 5e-4
    """The highest learning rate, after the warm-up."""
    warmup_updates: int = 100
    """Updates until the learning rate is at its highest."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    gradient_clip: Positive = 10.0
    """Largest norm of the gradient; a larger one is scaled down to it."""
    ema_decay: Annotated[float, NOT_NEGATIVE, Limit(lambda x: x < 1, "be below 1")] = 0.99
    """The policy's weights are an exponential average with this decay; 0 turns it off."""
    ema_power: float = 0.0
    """At update n the decay is 1 - n^-power where this is less than `ema_decay`, as published for Diffusion
    Policy; 0: n / (n + 10)."""


@dataclass
class FinetuneConfig:
    """Of method finetune: training on the source, then on the target, each with a warm-up and a cosine."""

    share: Annotated[float, Limit(lambda x: 0 < x < 1, "be above 0 and below 1")] = 0.25
    """Share of the updates that are made on the target; those before are made on the source."""
    learning_rate_factor: Positive = 0.1
    """The highest learning rate on the target, as a share of optim.learning_rate."""


@dataclass
class TrainConfig:
    """Everything that decides what a run computes, and how it runs."""

    method: str = "uot"
    """A row of :data:`simreal_agents.policies.methods.METHODS`; it decides alignment.kind."""
    seed: Annotated[int, NOT_NEGATIVE, Limit(lambda n: n < 2**63, "be below 2**63")] = 0
    """Seed of everything random: budget, weights, batches, augmentation, noise."""
    device: str = "auto"
    """auto takes cuda if there is one, else cpu."""
    amp: Literal["auto", "none", "bf16", "fp16"] = "auto"
    """Precision of the encoder. auto: bf16 where the processor computes in it. fp16, for a GPU without bf16,
    scales the loss."""
    threads: Count = 2
    """Threads of a CPU run, in each of its processes. 1 is best for several runs side by side. A resumed run
    gives the same weights with the same number."""
    log_every: Count = 50
    """Updates between lines of the log."""
    checkpoint_every: Count = 1000
    """Updates between checkpoints."""
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: Head.Settings = field(default_factory=Choice("mse", HEADS, Head.Settings))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    alignment: AlignmentConfig = field(default_factory=Choice("uot", ALIGNMENTS, AlignmentConfig))
    pairing: PairingConfig = field(default_factory=PairingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def complete(self) -> None:
        """Fill in what a run has to record of itself: the digests of files that it begins with.

        Raises:
            UsageError, DataError: a file is not named or cannot be read.
        """
        self.encoder.image.complete()
        self.encoder.points.complete()

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as written to ``config.json``."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; a key that is missing never takes its default.

        Raises:
            UsageError: a key that does not exist or is missing, or a value of another type or out of range.
        """
        config = complete(cls(), values)
        _check(config)
        return config


def load_config(preset: str = "", method: str = "uot", overrides: Iterable[str] = ()) -> TrainConfig:
    """Preset, then its settings for the method, then ``key=value`` overrides, in any order.

    Args:
        preset: one of the package by its name, or a file; empty takes :func:`default_preset`.

    >>> load_config(overrides=["alignment.tau=1.5", "optim.updates=10"]).alignment.tau
    1.5

    Raises:
        UsageError: an unknown preset, method or key, or a value that does not fit.
    """
    overrides = list(overrides)
    own: dict[str, Any] = dict(map(split_override, overrides))
    method = check_choice("method", own.setdefault("method", method), METHODS)
    general, of_method = read_preset(preset or default_preset(overrides), method)
    kind = {"alignment.kind": METHODS[method].alignment}
    config = TrainConfig()
    for layer in (*general, Layer("", kind), *of_method, Layer("", own)):
        try:
            assign_all(config, layer.values)
        except UsageError as error:
            if not layer.where:
                raise
            raise UsageError(f"{layer.where}: {error}") from error
    _check(config)
    return config


def default_preset(overrides: Iterable[str]) -> str:
    """The preset that is taken where none is named: it depends on what the policy shall see."""
    shown = dict(map(split_override, overrides)).get("observation.obs", "").split("+")
    return "cpu-pointcloud" if "pointcloud" in shown and "image" not in shown else "cpu-image"


def act_with(config: TrainConfig, overrides: Iterable[str]) -> None:
    """Change how a trained policy acts by ``key=value`` overrides, which need no other weights.

    Raises:
        UsageError: a key that does not exist or has to do with the weights, or a value that does not fit.
    """
    values = dict(map(split_override, overrides))
    free = [f"head.{name}" for name in HEADS[config.head.kind].WHEN_ACTING]
    for key in values:
        check_choice(f"setting of a trained policy with head.kind={config.head.kind}", key, free)
    assign_all(config, values)
    _check(config)


def config_values(config: TrainConfig) -> dict[str, Any]:
    """Every value by its dotted key: ``{"optim.updates": 6000, ...}``."""
    return dict(flatten(config.to_dict()))


def differences(old: Any, new: Any) -> list[str]:
    """Keys in which two trees of dataclasses differ, as ``key: old -> new``."""
    pair = dict(flatten(plain(old))), dict(flatten(plain(new)))
    said = {key: [str(values.get(key, "absent")) for values in pair] for key in pair[0] | pair[1]}
    return [f"{key}: {before} -> {after}" for key, (before, after) in said.items() if before != after]


def _check(config: TrainConfig) -> None:
    """Check what the types of the fields cannot express."""
    check_choice("method", config.method, METHODS)
    kind = config.alignment.kind
    if kind != METHODS[config.method].alignment:
        raise UsageError(
            f"alignment.kind = {kind!r} contradicts method {config.method!r}, which decides it. Valid: "
            f"{METHODS[config.method].alignment}; {kind} is what method {method_that_aligns_by(kind)!r} does."
        )
    groups = set(config.observation.spec.groups)
    if "pointcolour" in groups and "pointcloud" not in groups:
        raise UsageError("observation.obs has colours of points without the points: add pointcloud.")
    if groups == {"state"} and (kind != "none" or config.encoder.goal_weight > 0):
        raise UsageError(
            "observation.obs = 'state' leaves no feature to align or to predict goals from. Use "
            f"method {' or '.join(m for m in METHODS if METHODS[m].alignment == 'none')} and "
            "encoder.goal_weight=0, or add image."
        )
    if METHODS[config.method].finetunes and config.optim.updates < 2:
        raise UsageError(
            f"optim.updates = {config.optim.updates}: method {config.method!r} needs at least 2."
        )
    if kind in ("coral", "contrastive") and config.batch.alignment_size < 2:
        raise UsageError(f"batch.alignment_size = 1: method {config.method} compares at least 2 samples.")
    config.head.check()
    batch = config.batch
    shares = batch.source_paired + batch.source_unpaired + batch.target
    if abs(shares - 1) > 1e-6:
        raise UsageError(
            f"Shares source_paired + source_unpaired + target of the batch sum to {shares}, not 1."
        )
