"""Pictures are written, show what they were given, and a method keeps its colour."""

import numpy as np
import pytest
from PIL import Image

from simreal_agents.study.pictures import (
    METHOD_LOOKS,
    SuccessCount,
    features_tsne,
    sample_frames,
    success_over_updates,
    transport_plan,
)
from simreal_envs.errors import UsageError


def _colours(path) -> set[tuple[int, int, int]]:
    return {tuple(pixel) for pixel in np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()}


def _rgb(hex_colour: str) -> tuple[int, ...]:
    return tuple(int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))


def test_sample_frames_shows_images_of_both_domains(tmp_path):
    source = np.full((3, 8, 8, 3), (200, 10, 10), np.uint8)
    target = np.full((5, 8, 8, 3), (10, 10, 200), np.uint8)
    path = sample_frames(source, target, tmp_path / "new" / "frames.png")
    assert {(200, 10, 10), (10, 10, 200)} <= _colours(path)


def test_sample_frames_refuses_a_domain_without_images(tmp_path):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="got 2 and 0"):
        sample_frames(images, images[:0], tmp_path / "frames.png")


def test_transport_plan_sorts_frames_by_episode_and_time(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.array([(episode, step) for episode in range(3) for step in range(4)])
    plan = np.exp(-((np.arange(12)[:, None] - np.arange(12)[None]) ** 2) / 2.0) / 40
    shuffle = rng.permutation(12)
    ordered = transport_plan(plan, tmp_path / "a.png", frames, frames)
    mixed = transport_plan(
        plan[np.ix_(shuffle, shuffle)], tmp_path / "b.png", frames[shuffle], frames[shuffle]
    )
    assert mixed.read_bytes() == ordered.read_bytes()
    assert transport_plan(plan[:, :7], tmp_path / "c.png").stat().st_size > 10_000


def test_features_tsne_is_reproducible(tmp_path):
    rng = np.random.default_rng(0)
    domains = np.repeat(["source", "target"], 20)
    features = {method: rng.normal(size=(40, 8)) for method in ("cotrain", "uot")}
    first = features_tsne(features, domains, tmp_path / "a.png", progress=np.linspace(0, 1, 40))
    again = features_tsne(features, domains, tmp_path / "b.png", progress=np.linspace(0, 1, 40))
    assert first.read_bytes() == again.read_bytes()


def test_a_method_has_its_own_colour_in_every_learning_curve(tmp_path):
    counts = [
        SuccessCount(method, region, updates, updates // 100, 100)
        for method in ("cotrain", "uot")
        for region in ("in", "ood")
        for updates in (1000, 4000)
    ]
    both = _colours(success_over_updates(counts, tmp_path / "both.png"))
    one = _colours(success_over_updates([c for c in counts if c.method == "uot"], tmp_path / "one.png"))
    uot, cotrain = _rgb(METHOD_LOOKS["uot"][1]), _rgb(METHOD_LOOKS["cotrain"][1])
    assert {uot, cotrain} <= both
    assert uot in one
    assert cotrain not in one


def test_a_learning_curve_needs_a_point(tmp_path):
    with pytest.raises(UsageError, match="at least one"):
        success_over_updates([], tmp_path / "curve.png")
