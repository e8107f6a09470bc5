"""The encoder: keypoints, and the map of the view that moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from simreal_agents.policies.encoders import Branch, DomainView, EncoderConfig, SpatialSoftArgmax, move
from simreal_envs.features import PROPRIOCEPTIVE, ObservationSpec

IMAGES = torch.rand(6, 3, 36, 48, generator=torch.Generator().manual_seed(0)) - 0.5
TARGET = torch.tensor([False, False, False, True, True, True])


def encoder(view: str, **kwargs: Any) -> Any:
    """The branch of the first image that is shown."""
    torch.manual_seed(0)
    shown = ObservationSpec(**{"groups": ("image",), "image_size": (36, 48)} | kwargs).features(1)
    return Branch(shown[len(PROPRIOCEPTIVE)], EncoderConfig(view=view))  # type: ignore[arg-type]


def test_a_keypoint_is_where_its_map_is_highest() -> None:
    maps = torch.full((1, 2, 5, 9), -50.0)
    maps[0, 0, 4, 0] = maps[0, 1, 2, 6] = 50.0
    assert SpatialSoftArgmax()(maps)[0].tolist() == pytest.approx([-1.0, 0.5, 1.0, 0.0], abs=1e-5)


def test_the_map_of_the_view_is_affine() -> None:
    rng = np.random.default_rng(0)
    points, change = rng.uniform(-1, 1, (4, 2, 7)), rng.normal(0, 0.3, (4, 6))
    moved = move(torch.tensor(points.reshape(4, 14)), torch.tensor(change)).numpy().reshape(4, 2, 7)
    matrix, offset = np.eye(2) + change[:, [[0, 1], [3, 4]]], change[:, [2, 5], None]
    assert moved == pytest.approx(matrix @ points + offset, abs=1e-5)


@pytest.mark.parametrize("view", ["image", "domain"])
def test_views_start_as_no_change(view: str) -> None:
    network, unmoved = encoder(view), encoder("none")
    unmoved.load_state_dict(network.state_dict(), strict=False)
    assert torch.equal(network(IMAGES, TARGET), unmoved(IMAGES, TARGET))


def test_the_view_of_the_target_moves_all_its_images_alike_and_none_of_the_source() -> None:
    network = encoder("domain")
    before = network(IMAGES, TARGET)
    assert isinstance(network.view, DomainView)
    with torch.no_grad():
        network.view.change += torch.tensor([0.01, 0, 0.03, 0, -0.02, 0])
        maps = network.encoder.maps(IMAGES)
        changes = network.view(maps, TARGET)
    after = network(IMAGES, TARGET)
    assert torch.equal(after[~TARGET], before[~TARGET])
    assert (after[TARGET] - before[TARGET]).abs().max() > 1e-4
    assert torch.equal(changes[TARGET], changes[3].expand(3, 6))


def test_only_images_of_the_target_teach_its_view() -> None:
    network = encoder("domain")
    assert isinstance(network.view, DomainView)
    network(IMAGES, TARGET)[~TARGET].square().sum().backward()
    assert not network.view.change.grad.any()
    network(IMAGES, TARGET)[TARGET].square().sum().backward()
    assert network.view.change.grad.any()


@pytest.mark.parametrize("view", ["none", "image", "domain"])
def test_keypoints_are_not_rounded_where_convolutions_are(view: str) -> None:
    """bf16 has 26 values where 41 places of a map of 200 columns lie between 0.70 and 0.80."""
    places = torch.linspace(0.7, 0.8, 41)
    columns = torch.linspace(-1, 1, 201)
    maps = (-1e4 * (columns - places[:, None]).square())[:, None, None].expand(-1, 1, 3, -1)
    network = encoder(view)
    network.encoder.maps, network.encoder.detectors = torch.nn.Identity(), torch.nn.Identity()
    network.feature = torch.nn.Identity()
    network.view = None
    with torch.autocast("cpu", torch.bfloat16):
        points = network(maps, torch.zeros(41, dtype=torch.bool))
    assert points.dtype == torch.float32
    assert (points[:, 0] - places).abs().max() < 1e-3
    assert len(points[:, 0].unique()) == 41


@pytest.mark.parametrize("view", ["none", "image", "domain"])
def test_bf16_moves_features_by_no_more_than_its_convolutions_do(view: str) -> None:
    network = encoder(view).eval()
    with torch.no_grad():
        exact = network(IMAGES, TARGET)
        with torch.autocast("cpu", torch.bfloat16):
            features = network(IMAGES, TARGET)
            maps = network.encoder.maps(IMAGES)
            scores = network.encoder.detectors(maps)
        maps, scores = maps.float(), scores.float()
        points = network.encoder.keypoints(scores)
        if network.view is not None:
            points = move(points, network.view(maps, TARGET))
        assert torch.equal(features, network.feature(points))
    assert features.dtype == torch.float32
    assert (features - exact).abs().max() < 0.02
