"""Pictures of an experiment: what the domains look like, how features mix, what is transported where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from simreal_agents.policies.policy import load_policy
from simreal_agents.study.experiment import Experiment
from simreal_agents.study.pictures import features_tsne, sample_frames, transport_plan
from simreal_agents.training.demonstrations import load_domains
from simreal_agents.training.learner import Learner
from simreal_agents.training.run_folder import demonstrations, stored_config
from simreal_datasets.loading.frames import Frames

TSNE_FRAMES = 400
"""Frames of each domain in the t-SNE."""


def draw_domains(folder: Path, path: Path) -> Path:
    """Frames of both domains: six moments of one episode of each."""
    columns = []
    for domain in ("source", "target"):
        frames = Frames.load(folder / domain, 1)
        columns.append(frames.arrays["agentview_image"][np.linspace(0, len(frames) - 1, 6).astype(int)])
    return sample_frames(columns[0], columns[1], path)


def draw_features(experiment: Experiment, folder: Path, path: Path) -> Path:
    """t-SNE of the same frames of both domains under each method's final policy (first training seed)."""
    rng = np.random.default_rng(0)
    seed, shown, progress = experiment.seeds[0], {}, []
    observed = stored_config(folder / "runs" / f"{experiment.methods[0]}-{seed}").observation.spec
    for domain in ("source", "target"):
        budget = experiment.source_demos if domain == "source" else experiment.target_demos
        frames = Frames.load(folder / domain, budget, shown=observed)
        chosen = rng.choice(len(frames), min(TSNE_FRAMES, len(frames)), replace=False)
        episode = np.searchsorted(frames.starts, chosen, side="right") - 1
        shown[domain] = frames.observations(chosen, observed.history)
        progress.append((chosen - frames.starts[episode]) / np.diff(frames.starts)[episode])
    domains = np.repeat([*shown], [len(part) for part in progress]).tolist()
    features = {}
    for method in experiment.methods:
        policy = load_policy(folder / "runs" / f"{method}-{seed}", device="cpu")
        features[method] = np.concatenate([policy.encode(there, domain) for domain, there in shown.items()])
    return features_tsne(features, domains, path, np.concatenate(progress))


def draw_plan(folder: Path, run: str, path: Path) -> Path:
    """The transport plan of one alignment batch under the final policy."""
    config = stored_config(folder / "runs" / run)
    source, target = load_domains(config, demonstrations(folder / "runs" / run))
    assert source is not None
    assert target is not None
    learner = Learner(config, source, target)
    draw = learner.sampler.draw(learner.update)
    policy = load_policy(folder / "runs" / run, device="cpu")
    z, z_target = (
        torch.from_numpy(policy.encode(frames.observations(chosen, policy.spec.history), domain))
        for domain, frames, chosen in (
            ("source", source, draw.align_source),
            ("target", target, draw.align_target),
        )
    )
    plan = learner.objective.align(z, z_target, *learner.labels(draw), learner.update).plan
    assert plan is not None
    return transport_plan(
        plan.numpy(),
        path,
        _episode_and_step(source, draw.align_source),
        _episode_and_step(target, draw.align_target),
    )


def _episode_and_step(frames: Frames, indices: np.ndarray) -> np.ndarray:
    episode = np.searchsorted(frames.starts, indices, side="right") - 1
    return np.stack([episode, indices - frames.starts[episode]], axis=1)
