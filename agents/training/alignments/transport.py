"""Alignment of features and labels jointly, by a transport plan between (feature, label) pairs.

* ``uot``       <P, C>, P the unbalanced plan: pairs what matches, leaves the rest
* ``ot``        the same with both marginals kept: everything is matched
* ``diagonal``  the same with P on the pairs as sampled only, P_ii = (1/n) exp(-C_ii / (epsilon + 2 tau))

The ground cost is ``C_ij = a1 |z_i - z'_j|^2 + a2 |x_i - x'_j|^2``. P is a constant of the gradient and x is
data, so the gradient reaches the encoder through the feature cost alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simreal_agents.policies.alignments import (
    BalancedTransport,
    Diagonal,
    Transport,
    UnbalancedTransport,
)  # fmt: skip
from simreal_agents.training.alignments.base import Alignment, AlignmentLoss, squared_distances
from simreal_agents.training.alignments.solver import pot_plan, transport_plan


class TransportLoss(AlignmentLoss):
    """The cost of the plan. ``diagonal`` needs n = m."""

    def compare(self, z: Tensor, z_target: Tensor, x: Tensor, x_target: Tensor, update: int) -> Alignment:
        """The loss; logs the plan's mass (1 if balanced), and its share on the sampled pairs."""
        settings = self.settings
        assert isinstance(settings, Transport)
        cost = settings.feature_cost * squared_distances(z, z_target)
        cost = cost + settings.label_cost * squared_distances(x, x_target)
        plan, iterations, error = solve(settings, cost.detach())
        mass = plan.sum()
        logged: dict[str, Tensor | float] = {
            "plan_mass": mass,
            "plan_diagonal_share": torch.nan_to_num(plan.diagonal().sum() / mass),
            "plan_iterations": iterations,
            "plan_error": error,
        }
        return Alignment((plan * cost).sum(), logged, plan)


def solve(settings: Transport, cost: Tensor) -> tuple[Tensor, int, float]:
    """The plan (n, m) of a cost without gradient, the iterations it took, and its error.

    The error is the mass that the plan's rows and columns have too much or too little.
    """
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
