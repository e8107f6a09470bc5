"""How well a policy imitates demonstrations that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch

from simreal_agents.policies.randomness import Randomness
from simreal_agents.training.learner import Domain, Learner

MOST_FRAMES = 500
"""Of each domain, evenly over its held-out episodes: a network of any size is done with them soon."""
AT_ONCE = 64


def validation(learner: Learner) -> dict[str, float]:
    """The cloning loss of the averaged weights on each domain's held-out frames: ``validation_<domain>``.

    Images are as recorded. The head's noise is the same every time, and the generators of the training stay
    as they are.
    """
    return {f"validation_{name}": _loss(learner, name, held) for name, held in learner.held_out.items()}


def _loss(learner: Learner, name: str, held: Domain) -> float:
    network, spec, device = learner.average, learner.spec, learner.device
    count = min(MOST_FRAMES, len(held.frames))
    every = np.linspace(0, len(held.frames) - 1, count).round().astype(np.int64)
    generator = torch.Generator(device).manual_seed(0)
    total = 0.0
    for chosen in np.split(every, range(AT_ONCE, count, AT_ONCE)):
        moments = held.frames.moments(chosen, spec.history) if spec.history > 1 else chosen
        from_target = torch.full((len(chosen),), name == "target", device=device)
        inputs = torch.from_numpy(held.inputs[moments]).to(device)
        chunks = torch.from_numpy(held.chunks[chosen]).to(device)
        with torch.inference_mode():
            condition = network.condition(learner.features(name, held, chosen), inputs, from_target)
            loss = network.head.loss(condition, network.actions(chunks), Randomness(generator, len(chosen)))
        total += float(loss) * len(chosen)
    return total / count
