"""The diffusion head: noise, steps of sampling, the U-Net's size and field, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from simreal_agents.policies.config import load_config
from simreal_agents.policies.heads.diffusion import DiffusionHead, denoised, spaced, squared_cosine
from simreal_agents.policies.heads.unet import UNet
from simreal_envs.errors import UsageError

SHAPE = (4, 3)


def head(**settings: Any) -> DiffusionHead:
    """A small head of 4 actions of 3 numbers, for conditions of 5."""
    torch.manual_seed(0)
    small = {"predict": 4, "channels": (8, 16), "groups": 4, "embedding": 8}
    return DiffusionHead(5, SHAPE, DiffusionHead.Settings(kind="diffusion", **(small | settings)))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [2, 50, 100])
def test_the_noise_is_that_of_the_reference_library(levels: int) -> None:
    reference = DDPMScheduler(levels, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert squared_cosine(levels).numpy() == pytest.approx(reference.numpy(), rel=2e-5, abs=1e-9)
    assert squared_cosine(100)[[0, 49]].tolist() == pytest.approx([0.99937, 0.49384], abs=1e-5)


@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("trailing", 10), ("trailing", 7)])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
def test_every_step_of_ddim_is_that_of_the_reference_library(
    spacing: str, steps: int, eta: float, predicts: str
) -> None:
    reference = DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", clip_sample=False, prediction_type=predicts,
        timestep_spacing=spacing,
    )  # fmt: skip
    reference.set_timesteps(steps)
    levels = spaced(100, steps, spacing)
    assert levels == reference.timesteps.tolist()
    kept = squared_cosine(100)
    for i, level in enumerate(levels):
        x, predicted, noise = (drawn(6, *SHAPE, seed=seed) for seed in (i, i + 100, i + 200))
        expected = reference.step(predicted, level, x, eta=eta, variance_noise=noise).prev_sample
        after = kept[level - 100 // steps] if level >= 100 // steps else torch.tensor(1.0)
        if predicts == "epsilon":
            predicted = (x - (1 - kept[level]).sqrt() * predicted) / kept[level].sqrt()
        ours = denoised(x, predicted, kept[level], after, eta, noise)
        assert ours.numpy() == pytest.approx(expected.numpy(), rel=2e-3, abs=1e-4)


def test_all_levels_with_all_noise_anew_are_ddpm() -> None:
    """Also where the predicted chunk is cut."""
    reference = DDPMScheduler(20, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    ours = head(levels=20, steps=20, eta=1.0, predicts="epsilon")
    ours.low.fill_(-1)
    ours.high.fill_(1)
    condition, noise = drawn(2, 5), drawn(2, 21, *SHAPE)
    x = noise[:, 0]
    for i, level in enumerate(reversed(range(20))):
        predicted = ours.network(x, torch.full((2,), level), condition)
        known = reference._get_variance(level) ** 0.5 if level else 0.0
        mean = reference.step(predicted, level, x, generator=torch.Generator().manual_seed(i)).prev_sample
        if level:  # the library draws its noise itself
            mean = mean - known * drawn(2, *SHAPE, seed=i)
        x = mean + known * noise[:, i + 1]
    assert ours.noise_shape == (21, *SHAPE)
    assert ours.sample(condition, noise).detach().numpy() == pytest.approx(x.detach().numpy(), abs=1e-4)


@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
@pytest.mark.parametrize("steps", [1, 3, 100])
def test_ddim_recovers_the_chunk_from_a_true_prediction(
    predicts: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = head(predicts=predicts, steps=steps)
    chunk, noise = drawn(7, *SHAPE, seed=1), drawn(7, *SHAPE, seed=2)
    first = ours.kept[-1]
    start = first.sqrt() * chunk + (1 - first).sqrt() * noise
    monkeypatch.setattr(
        ours.network, "forward", lambda x, level, condition: noise if predicts == "epsilon" else chunk
    )
    found = ours.sample(drawn(7, 5), start[:, None])
    assert found.numpy() == pytest.approx(chunk.numpy(), abs=2e-3)


def test_samples_keep_to_the_range_of_the_demonstrations() -> None:
    ours = head(predicts="epsilon")
    chunks = drawn(50, *SHAPE) * torch.tensor([0.1, 1.0, 3.0])
    ours.fit(chunks)
    found = ours.sample(drawn(9, 5), drawn(9, 1, *SHAPE)).detach()
    assert (found >= chunks.amin((0, 1)) - 1e-6).all()
    assert (found <= chunks.amax((0, 1)) + 1e-6).all()
    assert {"low", "high"} < set(ours.state_dict())


# --- the U-Net --------------------------------------------------------------------------------------


def numbers_of_unet(actions: int, condition: int, channels: list[int], kernel: int, embedding: int) -> int:
    """By hand, from the layers of the publication."""

    def convolution(before: int, after: int, size: int) -> int:
        return before * after * size + after

    def block(before: int, after: int) -> int:
        two = convolution(before, after, kernel) + convolution(after, after, kernel) + 2 * 2 * after
        film = (embedding + condition + 1) * 2 * after
        return two + film + (convolution(before, after, 1) if before != after else 0)

    count = (embedding + 1) * 4 * embedding + (4 * embedding + 1) * embedding
    levels = list(zip([actions, *channels], channels, strict=False))
    count += sum(block(before, after) + block(after, after) for before, after in levels)
    count += sum(convolution(n, n, 3) for n in channels[:-1])
    count += 2 * block(channels[-1], channels[-1])
    for before, after in levels[1:]:
        count += block(2 * after, before) + block(before, before) + convolution(before, before, 4)
    last = convolution(channels[0], channels[0], kernel) + 2 * channels[0] + (channels[0] + 1) * actions
    return count + last


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_unet_has_the_published_number_of_parameters() -> None:
    """6.535322e+07: what Diffusion Policy's own notebook prints for Push-T from the state."""
    published = UNet(2, 2 * 5, [256, 512, 1024], 5, 8, 256)
    assert f"{count(published):e}" == "6.535322e+07"
    assert count(published) == numbers_of_unet(2, 10, [256, 512, 1024], 5, 256)
    assert count(UNet(10, 37, [8, 24], 3, 4, 6)) == numbers_of_unet(10, 37, [8, 24], 3, 6)


def field_of_unet(at: int, levels: int, kernel: int) -> tuple[int, int]:
    """The first and the last action that the network's convolutions read for the action ``at``, by hand."""
    reach = kernel // 2
    first, last = at - reach, at + reach  # the last layer
    for _ in range(levels - 1):  # doubled by a transposed convolution, 4 wide, after two blocks
        first, last = (first - 1) // 2 - 4 * reach, (last + 1) // 2 + 4 * reach
    first, last = first - 4 * reach, last + 4 * reach  # two blocks in the middle
    for i in range(levels):  # two blocks, before them a halving, 3 wide
        first, last = first - 4 * reach, last + 4 * reach
        if i < levels - 1:
            first, last = 2 * first - 1, 2 * last + 1
    return first, last


@pytest.mark.parametrize(("levels", "at", "width"), [(1, 300, 37), (2, 300, 121), (3, 301, 287)])
def test_the_unets_receptive_field_is_that_of_its_convolutions(levels: int, at: int, width: int) -> None:
    """GroupNorm is left out: it sees the whole chunk."""
    network = UNet(1, 1, [4] * levels, 5, 2, 4).double()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    for module in list(network.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.GroupNorm | nn.Mish):
                setattr(module, name, nn.Identity())
    x = torch.zeros(1, 640, 1, dtype=torch.float64, requires_grad=True)
    condition = torch.ones(1, 1, dtype=torch.float64)
    network(x, torch.ones(1, dtype=torch.double), condition)[0, at, 0].backward()
    assert x.grad is not None
    seen = x.grad[0, :, 0].nonzero()[:, 0]
    assert (int(seen[0]), int(seen[-1])) == field_of_unet(at, levels, 5)
    assert len(seen) == width  # far more than the 16 published actions for the three published levels


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("head.predict=10", "Valid: multiples of 4, for example 8, 12, 16"),
        ("head.channels=[64, 100, 128]", "100 is no multiple of head.groups = 8"),
        ("head.channels=[]", "head.channels = []"),
        ("head.steps=101", "head.steps = 101 exceeds head.levels = 100"),
        ("head.kernel=4", "head.kernel = 4 must be odd"),
        ("head.eta=1.5", "head.eta = 1.5 must be at most 1"),
        ("head.spacing=even", "Valid: trailing, leading"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(override: str, named: str) -> None:
    own = ["head.kind=diffusion", "head.predict=16", "head.channels=[64, 128, 256]"]
    with pytest.raises(UsageError) as error:
        load_config("cpu-image", "source", [*own, override])
    assert named in str(error.value)
