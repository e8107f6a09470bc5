"""The baselines that transport is compared with, each by a closed form of its loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simreal_agents.policies.alignments import CORAL, DANN, Contrastive
from simreal_agents.policies.config import load_config
from simreal_agents.training.alignments import alignment_loss
from simreal_agents.training.alignments.coral import covariance_distance
from simreal_agents.training.alignments.dann import DANNLoss, reverse
from simreal_envs.errors import UsageError

NO_LABELS = torch.empty(0, 0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_covariance(covariance: Tensor, count: int, seed: int) -> Tensor:
    """Samples (count, d) whose mean is 0 and whose unbiased covariance is exactly this one."""
    drawn = normal(count, len(covariance), seed=seed)
    drawn = drawn - drawn.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(drawn.T)), drawn.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T


def test_coral_is_the_distance_of_two_gaussians_covariances() -> None:
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    z, z_target = with_covariance(a, 40, 0), with_covariance(b, 25, 1) + 7.0
    loss = alignment_loss(CORAL("coral", normalize_features="none"), 2, 10, 0)
    expected = (1.0**2 + 2 * 0.5**2 + 2.0**2) / (4 * 2**2)
    assert float(loss(z, z_target, NO_LABELS, NO_LABELS, 0).loss) == pytest.approx(expected)
    assert float(covariance_distance(a, b)) == pytest.approx(expected)
    assert float(loss(z, z.flip(0), NO_LABELS, NO_LABELS, 0).loss) == pytest.approx(0.0, abs=1e-12)
    one_number = alignment_loss(CORAL("coral", normalize_features="none"), 1, 10, 0)
    single = one_number(z[:, :1], z_target[:, :1], NO_LABELS, NO_LABELS, 0).loss
    assert float(single) == pytest.approx((2.0 - 1.0) ** 2 / 4)


@pytest.mark.parametrize("method", ["coral", "contrastive"])
def test_what_compares_samples_needs_more_than_one(method: str) -> None:
    with pytest.raises(UsageError, match=rf"batch\.alignment_size = 1.* {method}"):
        load_config("cpu-image", method, ["batch.alignment_size=1"])


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrastive_loss_of_orthogonal_and_of_equal_features_is_known(temperature: float) -> None:
    settings = Contrastive("contrastive", normalize_features="none", temperature=temperature)
    loss, n = alignment_loss(settings, 6, 10, 0), 6
    z = torch.eye(n).double() * torch.arange(1.0, n + 1)[:, None]  # lengths do not matter
    found = loss(z, 3 * z, NO_LABELS, NO_LABELS, 0)
    assert float(found.loss) == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / temperature)), rel=1e-5)
    assert float(found.logged["partners_found"]) == 1.0
    same = loss(torch.ones(n, n), torch.ones(n, n), NO_LABELS, NO_LABELS, 0)
    assert float(same.loss) == pytest.approx(math.log(n), rel=1e-6)
    wrong = loss(z, z.roll(1, dims=0), NO_LABELS, NO_LABELS, 0)
    assert float(wrong.loss) == pytest.approx(float(found.loss) + 1 / temperature, rel=1e-5)
    assert float(wrong.logged["partners_found"]) == 0.0


def adversary(updates: int = 100, **values: float) -> DANNLoss:
    made = alignment_loss(DANN("dann", normalize_features="none", **values), 3, updates, 0)  # type: ignore[arg-type]
    assert isinstance(made, DANNLoss)
    return made.double()


def test_the_adversarys_gradient_reaches_the_features_reversed_and_itself_as_it_is() -> None:
    dann = adversary()
    update, x = 30, NO_LABELS
    strength = 2 / (1 + math.exp(-10 * update / 100)) - 1
    assert dann.strength(update) == pytest.approx(strength)
    z, z_target = normal(5, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    weights = list(dann.discriminator.parameters())
    found = torch.autograd.grad(dann(z, z_target, x, x, update).loss, [z, z_target, *weights])
    logits, logits_target = dann.discriminator(z)[:, 0], dann.discriminator(z_target)[:, 0]
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    plain = (
        binary(logits, torch.zeros_like(logits)) + binary(logits_target, torch.ones_like(logits_target))
    ) / 2
    expected = torch.autograd.grad(plain, [z, z_target, *weights])
    for i, (gradient, own) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(gradient, own if i >= 2 else -strength * own)
    assert torch.equal(reverse(z, 0.7), z)


def test_an_adversary_at_chance_loses_log_two_and_its_schedule_goes_from_zero_to_one() -> None:
    dann = adversary()
    for parameter in dann.discriminator[-1].parameters():
        parameter.data.zero_()
    loss = dann(normal(5, 3), normal(9, 3, seed=1), NO_LABELS, NO_LABELS, 50).loss
    assert float(loss.detach()) == pytest.approx(math.log(2))
    strengths = [dann.strength(update) for update in range(0, 101, 10)]
    assert strengths[0] == 0.0
    assert strengths == sorted(strengths)
    assert strengths[-1] == pytest.approx(1.0, abs=1e-4)


def test_features_that_the_adversary_trains_lose_their_domain() -> None:
    """Free features of two domains, far apart at first, are moved until the adversary is at chance."""
    dann = adversary(updates=600)
    z, z_target = (normal(64, 3, seed=i).mul(0.5).add(2.0 * i).requires_grad_() for i in range(2))
    optimizer = torch.optim.Adam([z, z_target, *dann.parameters()], 0.01)
    told = []
    for update in range(600):
        found = dann(z, z_target, NO_LABELS, NO_LABELS, update)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        told.append(float(found.logged["discriminator_accuracy"]))
    assert max(told[:100]) > 0.95
    assert sum(told[-100:]) / 100 < 0.7
