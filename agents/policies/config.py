"""The configuration of a training run: small dataclasses, presets as files, every value overridable.

``load_config("cpu", "uot", ["alignment.tau=0.5"])`` reads a preset, then the preset's settings for that
method, then the overrides. A key that does not exist and a value of another type are errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from simreal_agents.policies.overrides import assign, flatten, plain
from simreal_envs.errors import UsageError, unknown
from simreal_envs.features import ObservationSpec
from simreal_envs.spec import PROPRIOCEPTION, check_choice

AlignmentKind = Literal["none", "uot", "ot", "diagonal", "mmd"]


class Method(NamedTuple):
    """A method is the domains it clones, and how it aligns them."""

    uses_source: bool
    uses_target: bool
    alignment: AlignmentKind
    summary: str


METHODS = {
    "source": Method(True, False, "none", "clone the source only"),
    "target": Method(False, True, "none", "clone the target only"),
    "cotrain": Method(True, True, "none", "clone both, no alignment"),
    "mmd": Method(True, True, "mmd", "clone both, align the marginal of the features"),
    "ot": Method(True, True, "ot", "clone both, align features and labels jointly by balanced transport"),
    "uot": Method(True, True, "uot", "clone both, align jointly by unbalanced transport"),
}


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


@dataclass
class BatchConfig:
    """What one update looks at. The shares are those of co-training; a method of one domain gives it all."""

    size: int = 64
    """Samples of behaviour cloning."""
    source_paired: float = 0.0
    """Share drawn from source demonstrations that resemble the target's (by the pairing weights)."""
    source_unpaired: float = 0.875
    """Share drawn uniformly from all source frames."""
    target: float = 0.125
    """Share drawn uniformly from the target frames."""
    alignment_size: int = 48
    """Further samples a domain for the alignment."""


@dataclass
class ObservationConfig:
    """What the policy reads of the world beside ``head.proprioception``; each array has its own encoder."""

    obs: str = "image"
    """Joined by +: image, depth, pointcloud, pointcolour (of the points) and state."""
    cameras: str = "agentview"
    """Whose images and depths, joined by +: agentview, wrist."""
    points: int | None = None
    """Of a point cloud; null: as many as the demonstrations have."""
    history: int = 1
    """Moments, the present one among them."""

    @property
    def spec(self) -> ObservationSpec:
        """The same; the sizes are those of the demonstrations."""
        return ObservationSpec.parse(self.obs, cameras=self.cameras, history=self.history)


@dataclass
class EncoderConfig:
    """What is seen to a feature."""

    kind: str = "cnn"
    """Encoder of images and depths: cnn, or that of another package."""
    points_kind: str = "pointnet"
    """Encoder of point clouds: pointnet, or that of another package."""
    width: int = 16
    """Channels of cnn's first layer; the next two have twice and four times as many. pointnet's have twice
    as many each."""
    stem_stride: int = 4
    """Stride of the first convolution. 2 keeps finer keypoints at about three times the cost."""
    keypoints: int = 16
    """Maps of the spatial soft-argmax."""
    view: Literal["none", "image", "domain", "calibrated"] = "domain"
    """How images of a camera that stands still are brought into the source's view. calibrated: by the
    cameras' poses and intrinsics, which the episodes hold. Else by an affine map of the keypoints, if the
    encoder finds such; domain: one learnt map for all images of the target, as a domain has one camera;
    image: the image as a whole decides its map."""
    features: int = 16
    """Length of what each encoder says of each moment; joined, this is the feature z."""
    goal_weight: float = 0.0
    """Weight of the error of predicting, linearly from z, where the hand is sent at the next two keyframes
    (changes of the gripper's command). Actions alone say little of an object until the hand is near."""


@dataclass
class HeadConfig:
    """Feature and proprioception to a chunk of actions."""

    kind: str = "mse"
    """mse: regression. flow: flow matching, for demonstrations that disagree. Or that of another package."""
    predict: int = 8
    """Actions predicted at once."""
    execute: int = 4
    """Actions executed before the next prediction."""
    action_frame: Literal["base", "end_effector"] = "end_effector"
    """Origin of predicted positions: the robot base, or where the end effector is now (axes of the base)."""
    hidden: int = 256
    """Units of each of the two hidden layers."""
    proprioception: tuple[str, ...] = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    """Which proprioception the policy sees; orientation as two columns of the matrix."""
    flow_steps: int = 5
    """Euler steps of the flow."""


@dataclass
class AugmentConfig:
    """Random changes of each training image."""

    shift_px: int = 1
    """Shift by up to so many pixels, edges repeated. A pixel is several millimetres on the table, and the
    demonstrated action does not shift along."""
    brightness: float = 0.2
    """Factor drawn from 1 +- this."""
    contrast: float = 0.2
    """Factor around mid-grey, from 1 +- this."""
    saturation: float = 0.2
    """Factor around the pixel's grey, from 1 +- this."""
    hue_rad: float = 0.0
    """Rotation of the colours about the grey axis, up to +- this."""


@dataclass
class AlignmentConfig:
    """L = L_BC + weight * L_alignment."""

    kind: Literal["auto", "none", "uot", "ot", "diagonal", "mmd"] = "auto"
    """auto: what the method says."""
    weight: float = 0.03
    """lambda."""
    warmup_updates: int = 0
    """Updates over which the weight rises linearly from zero."""
    feature_cost: float = 0.03
    """a1 in C = a1 |z - z'|^2 + a2 |x - x'|^2."""
    label_cost: float = 200.0
    """a2; per square metre if the label is a position."""
    label: Literal["eef_path", "eef_pos", "action"] = "eef_path"
    """x: where the end effector is now and at three moments to come (metres), where it is now (as
    published), or the normalised action."""
    path_steps: int = 16
    """Steps between the moments of eef_path. A hand that starts from the same place for every object says
    nothing yet about where the object is; where it will go does."""
    normalize_features: Literal["none", "l2", "std", "whiten"] = "whiten"
    """Before the cost: l2 gives features of length 1; std divides by the batch's mean standard deviation;
    whiten makes the batch's covariance the identity, so that no direction can be aligned by shrinking it."""
    projection: int = 32
    """A longer feature is mapped to this length first, by orthonormal directions that the seed draws; 0:
    never. whiten needs a batch of several times as many samples as there are numbers."""
    epsilon: float = 0.02
    """Weight of KL(P || p q^T)."""
    tau: float = 0.5
    """Weight of the marginals' KL: small leaves states unmatched, large gives balanced transport."""
    mmd_kernel: Literal["energy", "rbf"] = "energy"
    """energy distance, or a sum of Gaussian kernels around the median distance."""
    solver: Literal["numba", "pot"] = "numba"
    """numba: our compiled Sinkhorn and Newton. pot: the POT library's Sinkhorn, many times slower;
    where costs are large against epsilon its plan is wrong, which `plan_error` in the log shows."""
    max_iterations: int = 300
    """Of the transport solver."""
    tolerance: float = 1e-4
    """The solver stops when the plan's rows and columns together have less mass than this too much or too
    little, of 1."""


@dataclass
class PairingConfig:
    """Which source frames are shown to the alignment with which target frames."""

    kind: Literal["dtw", "random"] = "dtw"
    """dtw: temporally aligned sampling. random: independent uniform frames (ablation)."""
    path: Literal["commanded", "executed"] = "commanded"
    """Which path of the end effector is compared: where it was sent, or where it went (as published). An arm
    that lags or is disturbed, hides by where it goes what the demonstrator saw and meant."""
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

    updates: int = 6000
    """Length of the run."""
    learning_rate: float = 5e-4
    """At its highest."""
    warmup_updates: int = 100
    """Updates until then."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    gradient_clip: float = 10.0
    """Largest norm of the gradient; a larger one is scaled down to it."""
    ema_decay: float = 0.99
    """The policy's weights are an exponential average with this decay; 0 turns it off."""


@dataclass
class TrainConfig:
    """Everything that decides what a run computes, and how it runs."""

    method: str = "uot"
    """source, target, cotrain, mmd, ot or uot."""
    seed: int = 0
    """Of everything random: budget, weights, batches, augmentation, noise."""
    device: str = "auto"
    """auto takes cuda if there is one, else cpu."""
    amp: Literal["auto", "none", "bf16"] = "auto"
    """Precision of the encoder. auto: bf16 where the processor computes in it."""
    threads: int = 2
    """Threads of a CPU run. 1 is best for several runs side by side. A resumed run gives the same weights
    with the same number."""
    log_every: int = 50
    """Updates between lines of the log."""
    checkpoint_every: int = 1000
    """Updates between checkpoints."""
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    pairing: PairingConfig = field(default_factory=PairingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def alignment_kind(self) -> str:
        """What the method, or an override of it, aligns by."""
        return METHODS[self.method].alignment if self.alignment.kind == "auto" else self.alignment.kind

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as written to ``config.json``."""
        return plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; a key that is missing never takes its default.

        Raises:
            UsageError: a key that does not exist or is missing, or a value of another type or out of range.
        """
        config, given = cls(), dict(flatten(values))
        for key, value in given.items():
            assign(config, key, value)
        if missing := [key for key in config_values(config) if key not in given]:
            raise UsageError(f"The configuration lacks {', '.join(missing)}.")
        _check(config)
        return config


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("simreal_agents.policies.presets")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_config(preset: str = "cpu", method: str = "uot", overrides: Iterable[str] = ()) -> TrainConfig:
    """Preset, then its settings for the method, then ``key=value`` overrides.

    >>> load_config(overrides=["alignment.tau=1.5", "optim.updates=10"]).alignment.tau
    1.5

    Raises:
        UsageError: an unknown preset, method or key, or a value that does not fit.
    """
    check_choice("method", method, METHODS)
    if preset not in presets():
        raise unknown("preset", preset, presets())
    file = resources.files("simreal_agents.policies.presets") / f"{preset}.yaml"
    values = yaml.safe_load(file.read_text()) or {}
    of_method = (values.pop("methods", None) or {}).get(method, {})
    config = TrainConfig()
    for key, value in [*flatten(values), *flatten(of_method), ("method", method)]:
        assign(config, key, value)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"Override {override!r} must be key=value, for example optim.updates=3000.")
        assign(config, key.strip(), text)
    _check(config)
    return config


def config_values(config: TrainConfig) -> dict[str, Any]:
    """Every value by its dotted key: ``{"optim.updates": 6000, ...}``."""
    return dict(flatten(config.to_dict()))


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Keys in which two configurations differ, as ``key: old -> new``."""
    before, after = config_values(old), config_values(new)
    return [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]


_AT_LEAST_ONE = (
    "batch.size", "batch.alignment_size", "encoder.stem_stride", "encoder.keypoints", "encoder.features",
    "head.predict", "head.execute", "head.hidden", "head.flow_steps", "optim.updates", "threads", "log_every",
    "checkpoint_every", "alignment.max_iterations", "alignment.path_steps", "observation.points",
)  # fmt: skip
_POSITIVE = (
    "alignment.epsilon", "alignment.tau", "alignment.tolerance", "optim.learning_rate", "optim.gradient_clip",
)  # fmt: skip


def _check(config: TrainConfig) -> None:
    """What types cannot say."""
    from simreal_agents.policies.encoders import ENCODERS
    from simreal_agents.policies.heads import HEADS

    check_choice("method", config.method, METHODS)
    for key, kind, valid in (
        ("encoder.kind", config.encoder.kind, ENCODERS),
        ("encoder.points_kind", config.encoder.points_kind, ENCODERS),
        ("head.kind", config.head.kind, HEADS),
    ):
        check_choice(f"config {key}", kind, valid)
    groups = set(config.observation.spec.groups)
    if "pointcolour" in groups and "pointcloud" not in groups:
        raise UsageError("observation.obs has colours of points without the points: add pointcloud.")
    if groups == {"state"} and (config.alignment_kind != "none" or config.encoder.goal_weight > 0):
        raise UsageError(
            "observation.obs = 'state' leaves no feature to align or to predict goals from. Use another "
            "method (source, target or cotrain) and encoder.goal_weight=0, or add image."
        )
    for key, value in flatten(config.to_dict()):
        if key in _AT_LEAST_ONE and value is not None and value < 1:
            raise UsageError(f"Config {key} = {value} must be at least 1.")
        if key in _POSITIVE and not value > 0:
            raise UsageError(f"Config {key} = {value} must be positive.")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"Config {key} = {value} must be finite.")
        if isinstance(value, int | float) and value < 0:
            raise UsageError(f"Config {key} = {value} must not be negative.")
    if config.seed >= 2**63:
        raise UsageError(f"seed = {config.seed} must be below 2**63.")
    if config.head.execute > config.head.predict:
        raise UsageError(
            f"head.execute = {config.head.execute} exceeds head.predict = {config.head.predict}."
        )
    if config.encoder.width < 8 or config.encoder.width % 8:
        raise UsageError(f"encoder.width = {config.encoder.width} must be a multiple of 8.")
    if not config.optim.ema_decay < 1:
        raise UsageError(f"optim.ema_decay = {config.optim.ema_decay} must be below 1.")
    if not config.head.proprioception:
        raise UsageError(f"head.proprioception = [] must name one at least of {', '.join(PROPRIOCEPTION)}.")
    for name in config.head.proprioception:
        check_choice("head.proprioception", name, PROPRIOCEPTION)
    batch = config.batch
    shares = batch.source_paired + batch.source_unpaired + batch.target
    if abs(shares - 1) > 1e-6:
        raise UsageError(
            f"Shares source_paired + source_unpaired + target of the batch sum to {shares}, not 1."
        )
    if config.alignment_kind != "none" and not (
        METHODS[config.method].uses_source and METHODS[config.method].uses_target
    ):
        raise UsageError(
            f"Method {config.method!r} has one domain; alignment {config.alignment_kind!r} needs two."
        )
