"""The transport plan and the losses of the alignment, by the equations that define them."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from simreal_agents.policies.alignments import ALIGNMENTS
from simreal_agents.training.alignments import alignment_loss
from simreal_agents.training.alignments.base import Alignment, normalize, squared_distances
from simreal_agents.training.alignments.mmd import energy_distance, rbf
from simreal_agents.training.alignments.solver import pot_plan, transport_plan
from simreal_agents.training.alignments.transport import solve

KINDS = ("uot", "ot", "diagonal")


def of_kind(kind: str, **values: object) -> Any:
    """Settings of a kind of alignment, with those of the values that it has."""
    made: Any = ALIGNMENTS[kind]
    has = {field.name for field in fields(made)}
    return made(kind, **{key: value for key, value in values.items() if key in has})


def align(
    config: Any, z: torch.Tensor, z_target: torch.Tensor, x: torch.Tensor, x_target: torch.Tensor
) -> Alignment:
    """The alignment of one batch, at the beginning of a training."""
    found: Alignment = alignment_loss(config, z.shape[1], 100, 0)(z, z_target, x, x_target, 0)
    return found


def random_cost(n: int = 12, m: int = 9, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return scale * np.random.default_rng(seed).random((n, m))


def exact_plan(cost: np.ndarray, epsilon: float, tau: float = math.inf) -> np.ndarray:
    return transport_plan(cost, epsilon, tau, tolerance=1e-13, max_iterations=10_000).plan


def objective(plan: np.ndarray, cost: np.ndarray, epsilon: float, tau: float) -> float:
    def kl(a: np.ndarray, b: np.ndarray | float) -> float:
        return float((a * np.log(a / b) - a + b).sum())

    n, m = cost.shape
    marginals = kl(plan.sum(1), 1 / n) + kl(plan.sum(0), 1 / m)
    return float((plan * cost).sum()) + epsilon * kl(plan, 1 / (n * m)) + tau * marginals


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.integers(1, 10), st.integers(1, 10), st.floats(0.02, 1), st.floats(0.01, 5), st.floats(0.1, 20),
    st.integers(0, 1000),
)  # fmt: skip
def test_plan_satisfies_the_optimality_conditions(
    n: int, m: int, epsilon: float, tau: float, scale: float, seed: int
) -> None:
    cost = random_cost(n, m, scale, seed)
    plan = exact_plan(cost, epsilon, tau)
    row_kl = np.log(plan.sum(1) * n)[:, None]
    column_kl = np.log(plan.sum(0) * m)[None]
    above_zero = plan > 1e-300  # the others are below what a double holds
    logarithm = np.log(np.where(above_zero, plan, 1.0) * n * m)
    stationarity = cost + epsilon * logarithm + tau * (row_kl + column_kl)
    assert np.abs(stationarity[above_zero]).max() < 1e-6 * (1 + cost.max())


@pytest.mark.parametrize(("epsilon", "tau"), [(0.1, 0.05), (0.05, 0.5), (0.5, 2.0)])
def test_plan_is_the_one_pot_finds(epsilon: float, tau: float) -> None:
    cost = random_cost()
    p, q = np.full(12, 1 / 12), np.full(9, 1 / 9)
    theirs, log = ot.unbalanced.sinkhorn_unbalanced(
        p, q, cost, epsilon, tau, reg_type="kl", c=p[:, None] * q, numItermax=100_000, stopThr=1e-14, log=True
    )
    ours = exact_plan(cost, epsilon, tau)
    assert np.abs(ours - theirs).max() < 1e-9 * theirs.max()
    u, v = np.exp(log["logu"]), np.exp(log["logv"])
    kernel, power = np.exp(-cost / epsilon) * p[:, None] * q, tau / (tau + epsilon)
    assert ours == pytest.approx(u[:, None] * kernel * v, rel=1e-8)
    assert u == pytest.approx((p / (kernel @ v)) ** power, rel=1e-8)  # POT's fixed point


def test_balanced_plan_is_the_one_pot_finds_and_keeps_both_marginals() -> None:
    cost = random_cost()
    plan = exact_plan(cost, 0.1)
    theirs = ot.sinkhorn(np.full(12, 1 / 12), np.full(9, 1 / 9), cost, 0.1, stopThr=1e-13, numItermax=100_000)
    assert np.abs(plan - theirs).max() < 1e-9
    assert plan.sum(1) == pytest.approx(np.full(12, 1 / 12))
    assert plan.sum(0) == pytest.approx(np.full(9, 1 / 9))


def matching_cost(scale: float, n: int = 32) -> np.ndarray:
    """Squared distances of two clouds in 4-D, the second displaced: each point has few partners."""
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(n, 1, 4)) - rng.normal(size=(1, n, 4)) - 0.5
    return scale * (clouds**2).sum(-1)


@pytest.mark.parametrize(
    ("scale", "epsilon", "tau"),
    [
        (1, 0.05, 0.5), (1, 0.01, 1.0), (1, 0.01, 100.0), (10, 0.02, 10.0), (30, 0.05, 10.0),
        (1, 0.01, math.inf), (10, 0.02, math.inf), (1000, 0.01, math.inf),
    ],
)  # fmt: skip
def test_the_default_iterations_suffice_for_small_epsilon_and_large_tau(
    scale: float, epsilon: float, tau: float
) -> None:
    cost = matching_cost(scale)
    plan, iterations, error = transport_plan(cost, epsilon, tau)
    assert iterations < 300
    assert error < 1e-4
    if math.isinf(tau):
        assert np.abs(plan.sum(1) - 1 / 32).sum() + np.abs(plan.sum(0) - 1 / 32).sum() < 1e-4
    exact = exact_plan(cost, epsilon, tau)
    assert np.abs(plan - exact).sum() < 2e-3 * exact.sum()


def test_balanced_transport_of_sharp_costs_tends_to_the_best_assignment() -> None:
    cost = matching_cost(1.0)
    rows, columns = linear_sum_assignment(cost)
    plan = exact_plan(cost, 0.002)
    assert (plan[rows, columns] * 32 > 0.95).all()
    assert (plan * cost).sum() == pytest.approx(cost[rows, columns].mean(), rel=1e-2)


def test_the_error_tells_of_a_plan_that_is_not_the_one_asked_for() -> None:
    cost = matching_cost(10)
    assert transport_plan(cost, 0.02, max_iterations=20).error > 0.01
    exact, theirs = exact_plan(cost, 0.02, 10.0), pot_plan(cost, 0.02, 10.0, 1e-9)
    wrong = np.abs(theirs.plan - exact).sum() / exact.sum()
    assert wrong < 0.05 or not theirs.error < 0.01


def test_no_neighbouring_plan_has_a_lower_objective() -> None:
    cost, rng = random_cost(5, 4), np.random.default_rng(1)
    plan = exact_plan(cost, 0.1, 0.3)
    lowest = objective(plan, cost, 0.1, 0.3)
    for _ in range(100):
        assert objective(plan * np.exp(rng.normal(0, 0.01, plan.shape)), cost, 0.1, 0.3) > lowest


def test_marginals_tend_to_the_balanced_ones_as_tau_grows() -> None:
    cost = random_cost()
    errors = [np.abs(exact_plan(cost, 0.1, tau).sum(1) - 1 / 12).max() for tau in (0.1, 1.0, 10.0, 100.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-2 * errors[0]
    assert np.abs(exact_plan(cost, 0.1, 1e5) - exact_plan(cost, 0.1)).max() < 1e-5


def test_plan_tends_to_the_gibbs_kernel_as_tau_vanishes() -> None:
    cost = random_cost()
    gibbs = np.exp(-cost / 0.1) / (12 * 9)
    errors = [np.abs(exact_plan(cost, 0.1, tau) / gibbs - 1).max() for tau in (1e-1, 1e-3, 1e-5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-3


def test_costs_far_above_epsilon_neither_underflow_nor_gain_mass() -> None:
    cost = random_cost(scale=1.0)
    cost[3] += 2000.0
    plan = exact_plan(cost, 0.02, 0.5)
    assert np.isfinite(plan).all()
    assert plan[3].sum() < 1e-30
    others = np.delete(np.arange(12), 3)
    assert (plan[others].sum(1) > 1e-3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_the_batch_permutes_the_plan(kind: str) -> None:
    cost = torch.from_numpy(random_cost(8, 8)).float()
    rows = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    columns = rows if kind == "diagonal" else torch.randperm(8, generator=torch.Generator().manual_seed(1))
    config = of_kind(kind, epsilon=0.1, tau=0.3, tolerance=1e-10, max_iterations=5000)
    plan, *_ = solve(config, cost)
    permuted, *_ = solve(config, cost[rows][:, columns])
    assert torch.allclose(permuted, plan[rows][:, columns], atol=1e-7)


def test_diagonal_plan_is_what_pot_returns_for_a_diagonal_reference() -> None:
    n, epsilon, tau = 7, 0.1, 0.05
    cost, p = random_cost(n, n), np.full(n, 1 / n)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        p, p, cost, epsilon, tau, reg_type="kl", c=np.eye(n) / n, numItermax=10_000, stopThr=1e-14
    )
    plan, *_ = solve(of_kind("diagonal", epsilon=epsilon, tau=tau), torch.from_numpy(cost))
    assert plan.numpy() == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_the_encoder_through_the_feature_cost_alone(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z, z_target = (torch.randn(6, 4, generator=generator, requires_grad=True) for _ in range(2))
    x, x_target = (torch.randn(6, 3, generator=generator, requires_grad=True) for _ in range(2))
    config = of_kind(kind, feature_cost=0.3, label_cost=0.7, epsilon=0.5, tau=0.5, normalize_features="none")
    result = align(config, z, z_target, x, x_target)
    assert result.plan is not None
    assert not result.plan.requires_grad
    result.loss.backward()
    plan = result.plan
    assert z.grad is not None
    assert z_target.grad is not None
    expected = 2 * 0.3 * (plan.sum(1, keepdim=True) * z - plan @ z_target)
    assert torch.allclose(z.grad, expected.detach(), atol=1e-6)
    expected = 2 * 0.3 * (plan.sum(0)[:, None] * z_target - plan.T @ z)
    assert torch.allclose(z_target.grad, expected.detach(), atol=1e-6)
    without_features = align(of_kind(kind, feature_cost=0.0), z, z_target, x, x_target)
    (gradient,) = torch.autograd.grad(without_features.loss, z)
    assert not gradient.any()


def test_training_on_the_loss_brings_paired_features_together() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, generator=generator)
    z = torch.randn(16, 2, generator=generator, requires_grad=True)
    z_target = torch.randn(16, 2, generator=generator)
    config = of_kind("uot", feature_cost=0.05, label_cost=50.0, epsilon=0.02, tau=5.0)
    before = squared_distances(z, z_target).diagonal().mean().item()
    optimizer = torch.optim.SGD([z], lr=100.0)
    for _ in range(50):
        optimizer.zero_grad()
        align(config, z, z_target, x, x).loss.backward()
        optimizer.step()
    assert squared_distances(z, z_target).diagonal().mean().item() < 0.1 * before


@pytest.mark.parametrize("distance", [energy_distance, rbf])
def test_marginal_distance_is_zero_for_equal_samples_only(distance: object) -> None:
    assert callable(distance)
    z = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert float(distance(z, z.flip(0))) == pytest.approx(0.0, abs=1e-3)
    assert float(distance(z, z + 1.0)) > 0.05


def test_energy_distance_is_the_known_one() -> None:
    z, z_target = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    expected = 2 * (1 + 5 + 1 + 3) / 4 - 2 * 2 / 4 - 2 * 4 / 4
    assert float(energy_distance(z, z_target)) == pytest.approx(expected, abs=1e-3)


def test_the_log_tells_mass_and_diagonal_share() -> None:
    z, x = torch.zeros(4, 2), torch.arange(4.0)[:, None] * 100
    logged = align(of_kind("uot"), z, z, x, x).logged
    assert float(logged["plan_diagonal_share"]) == pytest.approx(1.0)
    assert 0 < float(logged["plan_mass"]) <= 1.001


@pytest.mark.parametrize("kind", ["l2", "std"])
def test_normalized_features_do_not_depend_on_their_scale(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z, z_target = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    x, config = torch.zeros(6, 3), of_kind("uot", normalize_features=kind)
    loss = align(config, z, z_target, x, x).loss
    scaled = align(config, 9 * z, 9 * z_target, x, x).loss
    assert float(loss) == pytest.approx(float(scaled), rel=1e-4)


@pytest.mark.parametrize("kind", ["uot", "ot"])
def test_both_solvers_give_the_same_plan(kind: str) -> None:
    cost = torch.rand((20, 24), generator=torch.Generator().manual_seed(0))
    plans = [
        solve(of_kind(kind, epsilon=0.1, solver=name, tolerance=1e-10, max_iterations=5000), cost)[0]
        for name in ("numba", "pot")
    ]
    torch.testing.assert_close(plans[0], plans[1], atol=1e-7, rtol=1e-5)


def test_whitened_features_are_white_and_ignore_linear_maps() -> None:
    """Mixing and rescaling features by any invertible map leaves distances between whitened ones alone."""
    generator = torch.Generator().manual_seed(0)
    z, z_target = (torch.randn((200, 4), generator=generator, dtype=torch.float64) for _ in range(2))
    mixing = torch.randn((4, 4), generator=generator, dtype=torch.float64)
    white, white_target = normalize("whiten", z, z_target)
    covariance = torch.cov(torch.cat([white, white_target]).T)
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), atol=0.05, rtol=0)
    mixed = normalize("whiten", z @ mixing, z_target @ mixing)
    torch.testing.assert_close(
        squared_distances(*mixed), squared_distances(white, white_target), atol=0.5, rtol=0.2
    )


def test_scaled_features_cannot_be_aligned_by_shrinking() -> None:
    """Under std and whiten the loss does not change when all features shrink."""
    generator = torch.Generator().manual_seed(1)
    z, z_target, x = (torch.randn((16, 3), generator=generator) for _ in range(3))
    for kind in ("std", "whiten"):
        config = of_kind("uot", normalize_features=kind)
        losses = [align(config, scale * z, scale * z_target, x, x).loss for scale in (1.0, 0.1)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-2, atol=1e-3)
