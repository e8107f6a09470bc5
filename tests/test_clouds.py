"""Point clouds: what their encoder must not notice, and in which coordinates points reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import settings_of, write_dataset
from torch import Tensor

from simreal_agents.policies.config import load_config
from simreal_agents.policies.encoders import CloudConfig, needed_arrays, prepared
from simreal_agents.policies.encoders.pointnet import PointNet
from simreal_agents.policies.policy import load_policy
from simreal_agents.training.learner import Learner
from simreal_agents.training.train import load_domains, train
from simreal_datasets.loading.frames import Frames
from simreal_envs.errors import DataError
from simreal_envs.features import Feature, ObservationSpec, WorldSpec

SHOWN = ObservationSpec(("pointcloud", "pointcolour"), points=50)
HAND = CloudConfig(frame="end_effector", unit_m=0.05)


def pointnet(channels: int = 3, points: int = 200, **settings: int) -> PointNet:
    torch.manual_seed(0)
    feature = Feature("pointcloud", "pointcloud", (points, channels), "float32", "m")
    return PointNet(feature, PointNet.Settings(kind="pointnet", **settings))


def clouds(channels: int = 3, points: int = 200) -> Tensor:
    return torch.randn(6, points, channels, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [3, 6])
def test_the_order_of_points_and_repeated_points_change_nothing(channels: int) -> None:
    network, x = pointnet(channels), clouds(channels)
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))
    for same in (x[:, order], torch.cat([x, x[:, :70]], dim=1)):
        torch.testing.assert_close(network(same), network(x))
        with torch.no_grad():
            torch.testing.assert_close(network(same), network(x))
    fewer = network(x[:, :100])
    assert (fewer - network(x)).abs().max() > 1e-3


def test_a_point_keeps_its_colour() -> None:
    network, x = pointnet(6), clouds(6)
    swapped = torch.cat([x[..., :3], x[..., 3:].flip(1)], dim=2)
    assert (network(swapped) - network(x)).abs().max() > 1e-3


def test_the_network_is_the_published_one() -> None:
    """DP3's encoder: 64, 128 and 256 numbers with LayerNorm, and a projection to 64 with LayerNorm."""
    sizes = [(3, 64), (64, 128), (128, 256), (256, 64)]
    parameters = sum(a * b + b + 2 * b for a, b in sizes)
    assert sum(p.numel() for p in pointnet().parameters()) == parameters == 59_072
    assert pointnet(project=0).size == 256


def test_gradients_through_the_maxima_alone_are_those_through_all_points() -> None:
    network, x = pointnet(), clouds()
    plain = network.projection(network.points(x).amax(dim=1))
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.autograd.grad((plain * weights).sum(), [*network.parameters()])
    found = torch.autograd.grad((network(x) * weights).sum(), [*network.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_training_step_keeps_few_of_the_points_in_memory() -> None:
    network, x, kept = pointnet(width=16), clouds(points=1024), []

    def saved(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    for encode in (lambda: network.points(x).amax(dim=1), lambda: network(x)):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor):
            encode()
    middle = len(kept) - kept[::-1].index(0) - 1
    assert sum(kept[middle:]) < 0.2 * sum(kept[:middle])


@pytest.mark.parametrize("history", [1, 2])
def test_a_cloud_that_moves_with_the_hand_stays_the_same_in_the_hands_frame(history: int) -> None:
    spec = WorldSpec("Lift", "pose", SHOWN.features(1), history)
    assert needed_arrays(spec, CloudConfig()) == ["pointcloud", "pointcloud_rgb"]
    assert needed_arrays(spec, HAND) == ["pointcloud", "pointcloud_rgb", "robot0_eef_pos"]
    rng = np.random.default_rng(0)
    moments = (3, history) if history > 1 else (3,)
    points, hand = rng.normal(size=(*moments, 50, 3)), rng.normal(size=(*moments, 3))
    colours = torch.from_numpy(rng.integers(0, 256, (*moments, 50, 3), dtype=np.uint8))
    moves = rng.normal(size=(*moments, 3))

    def ready(move: np.ndarray, cloud: CloudConfig) -> Tensor:
        moved = {"pointcloud": points + move[..., None, :], "robot0_eef_pos": hand + move}
        tensors = {key: torch.from_numpy(array).float() for key, array in moved.items()}
        return prepared(tensors | {"pointcloud_rgb": colours}, spec, cloud)["pointcloud"]

    still = ready(0 * moves, HAND)
    assert still.shape == (3 * history, 50, 6)
    torch.testing.assert_close(ready(moves, HAND), still, rtol=0, atol=1e-4)
    expected = (points - hand[..., None, :]).reshape(-1, 50, 3) / 0.05
    np.testing.assert_allclose(still[..., :3], expected, atol=1e-4)
    table = CloudConfig(unit_m=0.5)
    moved = (ready(moves, table) - ready(0 * moves, table))[..., :3]
    np.testing.assert_allclose(moved, np.broadcast_to(moves.reshape(-1, 1, 3) / 0.5, moved.shape), atol=1e-5)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clouds")
    write_dataset(folder / "source", 3, shown=SHOWN)
    return folder


@pytest.mark.parametrize("history", [1, 2])
def test_a_policy_sees_clouds_as_in_training(history: int, seen: Path, tmp_path: Path) -> None:
    settings = [
        f"data.source={seen / 'source'}", "observation.obs=pointcloud+pointcolour", "optim.updates=2",
        "encoder.cloud.frame=end_effector", f"observation.history={history}", "head.kind=flow", "threads=1",
    ]  # fmt: skip
    config = load_config("cpu-image", "source", settings)
    train(config, tmp_path)
    policy, frames = load_policy(tmp_path), Frames.load(seen / "source", shown=SHOWN)
    learner = Learner(config, *load_domains(config))
    draw = learner.sampler.draw(0)
    observations = frames.observations(draw.clone_source, history)
    features = policy.encode(observations, "source")
    batch = learner.batch(draw)
    with torch.no_grad():
        expected = policy.network.encoder(batch.arrays, batch.from_target)
    np.testing.assert_allclose(features, expected, atol=1e-5)
    first = {key: array[0] for key, array in observations.items()}
    before = policy.predict_batch([first])
    np.testing.assert_array_equal(policy.predict_batch([first]), before)


def test_demonstrations_without_clouds_name_the_command_that_records_them(data: Path) -> None:
    settings = settings_of(data, "observation.obs=pointcloud")
    with pytest.raises(DataError, match=r"source lacks pointcloud; .*`simreal collect` .* --obs pointcloud"):
        load_domains(load_config("cpu-image", "source", settings))
