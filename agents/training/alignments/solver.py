"""Entropic transport, unbalanced or balanced, on one mini-batch: Sinkhorn's sweeps, then Newton's steps.

The problem's dual is concave in the potentials f and g (Chizat et al., "Scaling algorithms for unbalanced
optimal transport problems", 2018). Sweeps of Sinkhorn's algorithm, with an epsilon that falls to the one
asked for, come near its maximum; Newton's method finds it (Brauer et al., "A Sinkhorn-Newton method for
entropic optimal transport", 2017). Sweeps alone need tens of thousands where the marginals are to be kept and
epsilon is small.

Why not POT's solvers, which the tests compare this one with: where tau is large against epsilon they need as
many sweeps, and once their stabilised form absorbs its scalings it solves another problem.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

SWEEPS = 10
"""Before Newton's first step, at the epsilon asked for; three at each larger one."""

RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Shares of the mean curvature. The first is always there: balanced, f + c and g - c are the same plan."""


class Solution(NamedTuple):
    """The solution of a transport problem.

    Attributes:
        plan: (n, m) float64.
        iterations: sweeps and Newton steps; the most that are allowed if it did not converge.
        error: mass that rows and columns have too much or too little in all; 0 if solved. With unbounded tau
            row i is to have 1 / n, else exp(-f_i / tau) / n with f the plan's own potential.
    """

    plan: NDArray[np.float64]
    iterations: int
    error: float


def transport_plan(
    cost: NDArray[np.float64],
    epsilon: float,
    tau: float = math.inf,
    tolerance: float = 1e-4,
    max_iterations: int = 300,
) -> Solution:
    """Solve ``min_P <P, C> + epsilon KL(P || p q^T) + tau KL(P 1 || p) + tau KL(P^T 1 || q)``, uniform p, q.

    Args:
        cost: (n, m).
        epsilon: above 0.
        tau: above 0; infinity asks for the marginals p and q exactly (balanced transport).
        tolerance: stop when the error is below.
        max_iterations: sweeps and Newton steps at most.
    """
    cost = np.ascontiguousarray(cost, dtype=np.float64)
    return Solution(*_solve(cost, epsilon, tau, tolerance, max_iterations))


def pot_plan(
    cost: NDArray[np.float64],
    epsilon: float,
    tau: float = math.inf,
    tolerance: float = 1e-4,
    max_iterations: int = 300,
) -> Solution:
    """The same by the POT library: its plain Sinkhorn, with p q^T named as the reference measure.

    Its unbalanced plan lacks mass, and the error says so, where its kernel underflows: with costs that are
    large against epsilon. Its stabilised form is wrong there as well (POT issue 711).
    """
    import ot

    p, q = ot.unif(cost.shape[0]), ot.unif(cost.shape[1])
    options = {"numItermax": max_iterations, "stopThr": tolerance, "log": True, "warn": False}
    if math.isinf(tau):
        plan, log = ot.bregman.sinkhorn_stabilized(p, q, cost, epsilon, **options)
        missing = np.abs(plan.sum(1) - p).sum() + np.abs(plan.sum(0) - q).sum()
        return Solution(plan, int(log["n_iter"]), float(missing))
    plan, log = ot.unbalanced.sinkhorn_unbalanced(
        p, q, cost, epsilon, tau, method="sinkhorn", reg_type="kl", c=np.outer(p, q), **options
    )
    error, _ = _slope(np.ascontiguousarray(plan), epsilon * log["logu"], epsilon * log["logv"], tau)
    return Solution(plan, len(log["err"]), float(error))


@numba.njit(cache=True, nogil=True)
def _solve(
    cost: NDArray[np.float64], epsilon: float, tau: float, tolerance: float, max_iterations: int
) -> tuple[NDArray[np.float64], int, float]:
    """Maximise the dual; P_ij = p_i q_j exp((f_i + g_j - C_ij) / epsilon).

    Every Newton step is followed by a sweep, which never lowers the dual, so the iteration goes on also where
    the step had to be refused.
    """
    n, m = cost.shape
    f, g = np.zeros(n), np.zeros(m)
    transposed = cost.T.copy()
    annealed = max(epsilon, cost.max() / 4)
    iterations = 0
    while annealed > epsilon and iterations < max_iterations:
        for _ in range(3):
            _sweep(cost, transposed, f, g, annealed, tau)
            iterations += 1
        annealed = max(epsilon, annealed / 2)
    for _ in range(SWEEPS):
        _sweep(cost, transposed, f, g, epsilon, tau)
        iterations += 1
    plan = _plan(cost, f, g, epsilon)
    while True:
        error, slope = _slope(plan, f, g, tau)
        if error < tolerance or iterations >= max_iterations:
            return plan, min(iterations, max_iterations), error
        _newton_step(cost, plan, f, g, slope, epsilon, tau)
        _sweep(cost, transposed, f, g, epsilon, tau)
        iterations += 1
        plan = _plan(cost, f, g, epsilon)


@numba.njit(cache=True, nogil=True)
def _newton_step(
    cost: NDArray[np.float64],
    plan: NDArray[np.float64],
    f: NDArray[np.float64],
    g: NDArray[np.float64],
    slope: NDArray[np.float64],
    epsilon: float,
    tau: float,
) -> None:
    """Move f and g in place by Newton's step; not at all if no step raises the dual enough.

    Parts of the plan that hardly exchange mass make the curvature nearly singular and the step too long. It
    is then halved, and after that bent towards the slope (Levenberg's ridge).
    """
    n, m = cost.shape
    curvature = np.zeros((n + m, n + m))
    curvature[:n, n:], curvature[n:, :n] = plan / epsilon, plan.T / epsilon
    for i in range(n):
        curvature[i, i] = plan[i].sum() / epsilon + np.exp(-f[i] / tau) / n / tau
    for j in range(m):
        curvature[n + j, n + j] = plan[:, j].sum() / epsilon + np.exp(-g[j] / tau) / m / tau
    mean = np.trace(curvature) / (n + m)
    before = _dual(plan, f, g, epsilon, tau)
    for ridge in RIDGES:
        step = np.linalg.solve(curvature + ridge * mean * np.eye(n + m), slope)
        rise = np.dot(step, slope)
        for part in (1.0, 0.5, 0.25):
            moved_f, moved_g = f + part * step[:n], g + part * step[n:]
            after = _dual(_plan(cost, moved_f, moved_g, epsilon), moved_f, moved_g, epsilon, tau)
            if after >= before + 1e-4 * part * rise - 1e-14 * abs(before):  # false where it overflows
                f[:], g[:] = moved_f, moved_g
                return


@numba.njit(cache=True, nogil=True)
def _plan(
    cost: NDArray[np.float64], f: NDArray[np.float64], g: NDArray[np.float64], epsilon: float
) -> NDArray[np.float64]:
    n, m = cost.shape
    plan = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            plan[i, j] = np.exp((f[i] + g[j] - cost[i, j]) / epsilon) / (n * m)
    return plan


@numba.njit(cache=True, nogil=True)
def _dual(
    plan: NDArray[np.float64], f: NDArray[np.float64], g: NDArray[np.float64], epsilon: float, tau: float
) -> float:
    """The dual's value, up to a constant."""
    value = -epsilon * plan.sum()
    if np.isinf(tau):
        return value + f.mean() + g.mean()
    return value - tau * (np.exp(-f / tau).mean() + np.exp(-g / tau).mean())


@numba.njit(cache=True, nogil=True)
def _slope(
    plan: NDArray[np.float64], f: NDArray[np.float64], g: NDArray[np.float64], tau: float
) -> tuple[float, NDArray[np.float64]]:
    """The dual's gradient (n + m,): mass that rows and columns lack; and the sum of its magnitudes."""
    n, m = plan.shape
    slope = np.empty(n + m)
    for i in range(n):
        slope[i] = np.exp(-f[i] / tau) / n - plan[i].sum()  # exp(0) = 1 if tau is infinite
    for j in range(m):
        slope[n + j] = np.exp(-g[j] / tau) / m - plan[:, j].sum()
    return np.abs(slope).sum(), slope


@numba.njit(cache=True, nogil=True)
def _sweep(
    cost: NDArray[np.float64],
    transposed: NDArray[np.float64],
    f: NDArray[np.float64],
    g: NDArray[np.float64],
    epsilon: float,
    tau: float,
) -> None:
    """One sweep of Sinkhorn's algorithm in the log domain: the best f for g, then the best g for f."""
    relaxation = 1.0 if np.isinf(tau) else tau / (tau + epsilon)
    _log_sweep(cost, f, g, epsilon, relaxation)
    _log_sweep(transposed, g, f, epsilon, relaxation)


@numba.njit(cache=True, nogil=True)
def _log_sweep(
    cost: NDArray[np.float64],
    f: NDArray[np.float64],
    g: NDArray[np.float64],
    epsilon: float,
    relaxation: float,
) -> None:
    """f_i = -relaxation epsilon log sum_j q_j exp((g_j - C_ij) / epsilon)."""
    n, m = cost.shape
    for i in range(n):
        largest = -np.inf
        for j in range(m):
            largest = max(largest, (g[j] - cost[i, j]) / epsilon)
        total = 0.0
        for j in range(m):
            total += np.exp((g[j] - cost[i, j]) / epsilon - largest)
        f[i] = -relaxation * epsilon * (largest + np.log(total / m))
