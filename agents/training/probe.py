"""The domain probe: how well a linear classifier tells the domains apart by a policy's features.

It compares scenes that look alike but for the domain: each target demonstration and the source demonstration
whose path resembles it most, the same number of frames of each, evenly spread over time. It is tested on
demonstrations that it was not fitted to. Chance is 0.5; 1 means that the features show the domain.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from simreal_agents.training.learner import Learner
from simreal_agents.training.pairs import by_paths
from simreal_datasets.loading.frames import Frames
from simreal_datasets.loading.pairing import Pairing

DEMONSTRATIONS = 10
"""Of each domain, at most."""
FRAMES = 32
"""Of each demonstration."""
AT_ONCE = 64
FOLDS = 5
"""At most; each fold leaves some demonstrations of both domains out."""

Indices = NDArray[np.int64]


def domain_probe(learner: Learner) -> dict[str, float]:
    """The probe's accuracy by the averaged weights, as ``domain_probe``; nothing where it cannot be told.

    That is so for a method with one domain, for a policy without features, where a domain has a single
    demonstration, and for a training that diverges.
    """
    if len(learner.domains) < 2 or learner.average.encoder.size == 0:
        return {}
    source, target = (learner.domains[name].frames for name in ("source", "target"))
    probe = DomainProbe(source, target, by_paths(learner.config, source, target))
    told = probe.accuracy(*(features(learner, name, probe.frames[name]) for name in ("source", "target")))
    return {} if told is None else {"domain_probe": told}


def features(learner: Learner, domain: str, frames: Indices) -> NDArray[np.float32]:
    """Features (N, F) of frames of the ``source`` or the ``target``, as the policy that acts has them."""
    parts = np.split(frames, range(AT_ONCE, len(frames), AT_ONCE))
    with torch.inference_mode():
        found = [learner.features(domain, learner.domains[domain], some) for some in parts]
    return torch.cat(found).cpu().numpy()


class DomainProbe:
    """The frames that are looked at, and which demonstrations are left out together.

    Attributes:
        frames: by domain, (D FRAMES,) indices, demonstration by demonstration.
        folds: (D,) which fold the demonstrations of each pair are in.
    """

    def __init__(self, source: Frames, target: Frames, pairing: Pairing) -> None:
        """Choose the pairs of demonstrations that are nearest in all; no demonstration is in two of them.

        Args:
            pairing: of all demonstrations by their paths.
        """
        s, t = linear_sum_assignment(pairing.distances_m)
        nearest = np.argsort(pairing.distances_m[s, t], kind="stable")[:DEMONSTRATIONS]
        self.frames = {"source": _spread(source, s[nearest]), "target": _spread(target, t[nearest])}
        self.folds = np.arange(len(nearest)) % FOLDS

    def accuracy(self, features: NDArray[np.floating], features_target: NDArray[np.floating]) -> float | None:
        """Share of the frames whose domain is told, over all folds, by features (D FRAMES, F) of each domain.

        The classifier is a logistic regression on standardised features. None if there are fewer than two
        demonstrations of each domain, since those that are left out leave none to fit it to, and for
        features of a training that diverges.
        """
        x = np.concatenate([features, features_target]).astype(np.float64)
        if len(self.folds) < 2 or not np.isfinite(x).all():
            return None
        domain = np.repeat([0, 1], len(features))
        fold = np.tile(np.repeat(self.folds, FRAMES), 2)
        right = np.empty(len(x), bool)
        with threadpool_limits(1):
            for left_out in np.unique(fold):
                tested = fold == left_out
                classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
                classifier.fit(x[~tested], domain[~tested])
                right[tested] = classifier.predict(x[tested]) == domain[tested]
        return float(right.mean())


def _spread(frames: Frames, episodes: Indices) -> Indices:
    """Frames evenly spread over each of these episodes, from its first to its last."""
    first, last = frames.starts[episodes], frames.starts[episodes + 1] - 1
    return np.linspace(first, last, FRAMES, axis=1).round().astype(np.int64).ravel()
