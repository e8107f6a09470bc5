"""Losses that align features across domains: unbalanced transport, and those that it is compared with.

``L = L_BC + lambda L_alignment`` with, over a batch of n source and m target samples,

* ``uot``       <P, C>, P the unbalanced plan of (feature, label): pairs what matches, leaves the rest
* ``ot``        the same with both marginals kept: everything is matched
* ``diagonal``  the same with P on the pairs as sampled only, P_ii = (1/n) exp(-C_ii / (epsilon + 2 tau))
* ``mmd``       a distance between the marginals of the features, labels ignored

The ground cost is ``C_ij = a1 |z_i - z'_j|^2 + a2 |x_i - x'_j|^2``. P is a constant of the gradient and x is
data, so the gradient reaches the encoder through the feature cost alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simreal_agents.policies.alignments import (
    MMD,
    BalancedTransport,
    Diagonal,
    FeatureAlignment,
    Transport,
    UnbalancedTransport,
)  # fmt: skip
from simreal_agents.training.transport import pot_plan, transport_plan

RIDGE = 0.01
"""Directions with less than this share of the mean variance count as noise in whitening."""


@dataclass
class Alignment:
    """Loss of one batch, and what to log about it."""

    loss: Tensor
    plan: Tensor | None = None
    """(n, m) transport plan; None for ``mmd``."""
    iterations: int = 0
    error: float = 0.0
    """Mass that the plan's rows and columns have too much or too little."""

    def summary(self) -> dict[str, float]:
        """The loss, the plan's mass (1 if balanced), and the share of this mass on the sampled pairs."""
        values = {"alignment": float(self.loss.detach())}
        if self.plan is not None:
            mass = float(self.plan.sum())
            values["plan_mass"] = mass
            values["plan_diagonal_share"] = float(self.plan.diagonal().sum()) / mass if mass > 0 else 0.0
            values["plan_iterations"] = self.iterations
            values["plan_error"] = self.error
        return values


def align(settings: FeatureAlignment, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor) -> Alignment:
    """The loss between the source's features ``z`` (n, F), labels ``x`` (n, d) and the target's m of each.

    ``diagonal`` needs n = m.
    """
    z, z_target = normalize(settings.normalize_features, z, z_target)
    if isinstance(settings, MMD):
        return Alignment(energy_distance(z, z_target) if settings.kernel == "energy" else rbf(z, z_target))
    assert isinstance(settings, Transport)
    cost = settings.feature_cost * squared_distances(z, z_target)
    cost = cost + settings.label_cost * squared_distances(x, x_target)
    plan, iterations, error = solve(settings, cost.detach())
    return Alignment((plan * cost).sum(), plan, iterations, error)


def solve(settings: Transport, cost: Tensor) -> tuple[Tensor, int, float]:
    """The plan (n, m) of a cost without gradient, the iterations it took, and its error."""
    if isinstance(settings, BalancedTransport):
        tau = settings.tau if isinstance(settings, UnbalancedTransport) else math.inf
        sinkhorn = pot_plan if settings.solver == "pot" else transport_plan
        plan, iterations, error = sinkhorn(
            cost.double().cpu().numpy(), settings.epsilon, tau, settings.tolerance, settings.max_iterations
        )
        return torch.from_numpy(plan).to(cost), iterations, error
    assert isinstance(settings, Diagonal)
    # With I/n for p q^T as the reference of epsilon's KL, P is diagonal and both marginals are its
    # diagonal; the objective falls into n problems with C_ii + (epsilon + 2 tau) log(n P_ii) = 0.
    mass = torch.exp(-cost.diagonal() / (settings.epsilon + 2 * settings.tau)) / len(cost)
    return torch.diag(mass), 0, 0.0


def normalize(kind: str, z: Tensor, z_target: Tensor) -> tuple[Tensor, Tensor]:
    """Features before the cost: as they are, of length 1, in units of the batch's deviation, or white."""
    if kind == "l2":
        return torch.nn.functional.normalize(z, dim=1), torch.nn.functional.normalize(z_target, dim=1)
    if kind == "std":  # with its gradient: else features would shrink for ever
        scale = torch.cat([z, z_target]).std(dim=0).mean().clamp_min(1e-6)
        return z / scale, z_target / scale
    if kind == "whiten":
        both = torch.cat([z, z_target])
        covariance = torch.cov(both.T)
        ridge = (RIDGE * covariance.diagonal().mean() + 1e-8) * torch.eye(z.shape[1], device=z.device)
        root = torch.linalg.cholesky(covariance + ridge)
        white = torch.linalg.solve_triangular(root, (both - both.mean(0)).T, upper=False).T
        return white[: len(z)], white[len(z) :]
    return z, z_target


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n, m)."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def energy_distance(z: Tensor, z_target: Tensor) -> Tensor:
    """2 E|z - z'| - E|z - z| - E|z' - z'| (Székely and Rizzo, 2013); an MMD with kernel -|a - b|."""

    def mean_distance(a: Tensor, b: Tensor) -> Tensor:
        return (squared_distances(a, b) + 1e-8).sqrt().mean()

    return 2 * mean_distance(z, z_target) - mean_distance(z, z) - mean_distance(z_target, z_target)


def rbf(z: Tensor, z_target: Tensor) -> Tensor:
    """Squared MMD with a sum of Gaussian kernels, bandwidths 1/4 to 4 times the batch's median distance^2."""
    both = torch.cat([z, z_target])
    squared = squared_distances(both, both)
    median = squared.detach().median().clamp_min(1e-6)
    kernel = torch.stack(
        [torch.exp(-squared / (scale * median)) for scale in (0.25, 0.5, 1.0, 2.0, 4.0)]
    ).sum(0)
    n = len(z)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
