"""The kinds of alignment and the settings of each; ``simreal_agents.training.alignments`` computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simreal_agents.policies.overrides import Count, Positive, Tagged


@dataclass
class AlignmentConfig(Tagged):
    """Settings that every alignment has: L = L_BC + weight * L_alignment. ``none`` has no others."""


@dataclass
class FeatureAlignment(AlignmentConfig):
    """Settings that every loss between the features of two domains has."""

    weight: float = 0.03
    """lambda."""
    warmup_updates: int = 0
    """Updates over which the weight rises linearly from zero."""
    normalize_features: Literal["none", "l2", "std", "whiten"] = "whiten"
    """How features are scaled before the cost: l2 to length 1; std by the batch's mean standard deviation;
    whiten makes the batch's covariance the identity, so that no direction can be aligned by shrinking it."""
    projection: int = 32
    """A longer feature is projected to this length first, on orthonormal directions that the seed draws; 0:
    never. whiten needs a batch of several times as many samples as there are numbers."""


@dataclass
class MMD(FeatureAlignment):
    """Settings of MMD, a distance between the marginals of the features."""

    kernel: Literal["energy", "rbf"] = "energy"
    """energy distance, or a sum of Gaussian kernels around the median distance."""


@dataclass
class CORAL(FeatureAlignment):
    """Settings of CORAL, a distance between the covariances of the features."""

    weight: float = 1.0
    """lambda."""


@dataclass
class DANN(FeatureAlignment):
    """Settings of a discriminator of the domain, whose gradient reaches the encoder reversed."""

    weight: float = 0.01
    """lambda."""
    hidden: Count = 64
    """Units of each of the discriminator's two hidden layers."""
    gamma: Positive = 10.0
    """The reversed gradient grows as 2 / (1 + exp(-gamma p)) - 1 with the share p of the training."""


@dataclass
class Contrastive(FeatureAlignment):
    """Settings of InfoNCE: of a batch's source samples, a target's partner has to be the most similar."""

    weight: float = 0.01
    """lambda; 0.1 in X-Sim's published code."""
    temperature: Positive = 1.0
    """Cosines are divided by this; 1 in X-Sim's published code."""


@dataclass
class Transport(FeatureAlignment):
    """Settings of every alignment by a plan between (feature, label) pairs."""

    feature_cost: float = 0.03
    """a1 in C = a1 |z - z'|^2 + a2 |x - x'|^2."""
    label_cost: float = 200.0
    """a2; per square metre if the label is a position."""
    label: Literal["eef_path", "eef_pos", "action"] = "eef_path"
    """x: where the end effector is now and at three moments to come (metres), where it is now (as
    published), or the normalised action."""
    path_steps: Count = 16
    """Steps between the moments of eef_path. Every episode starts with the hand in the same place, so only
    where the hand will go says where the object is."""
    epsilon: Positive = 0.02
    """Weight of KL(P || p q^T)."""


@dataclass
class Diagonal(Transport):
    """Settings of a plan that has mass on the sampled pairs alone, in closed form."""

    tau: Positive = 0.5
    """Weight of the marginals' KL: a small tau leaves states unmatched, a large one matches all."""


@dataclass
class BalancedTransport(Transport):
    """Settings of balanced transport: the plan keeps both marginals, so every sample is matched."""

    solver: Literal["numba", "pot"] = "numba"
    """numba: our compiled Sinkhorn and Newton. pot: the POT library's Sinkhorn, many times slower;
    where costs are large against epsilon its plan is wrong, which `plan_error` in the log shows."""
    max_iterations: Count = 300
    """Of the transport solver."""
    tolerance: Positive = 1e-4
    """The solver stops when the plan's rows and columns together have less mass than this too much or too
    little, of 1."""


@dataclass
class UnbalancedTransport(BalancedTransport, Diagonal):
    """Settings of unbalanced transport: samples without a counterpart are left unmatched."""


ALIGNMENTS: dict[str, type[AlignmentConfig]] = {
    "none": AlignmentConfig,
    "uot": UnbalancedTransport,
    "ot": BalancedTransport,
    "diagonal": Diagonal,
    "mmd": MMD,
    "coral": CORAL,
    "dann": DANN,
    "contrastive": Contrastive,
}
