"""What is found out about each checkpoint once it is saved. Nothing of it changes what is trained.

The values are logged at the checkpoint's update and kept beside its weights, in ``assessment.json``. A
checkpoint without this file is assessed when its run goes on.
"""

from __future__ import annotations

from simreal_agents.training.learner import Learner
from simreal_agents.training.probe import domain_probe
from simreal_agents.training.validation import validation


def assess(learner: Learner) -> dict[str, float]:
    """Judge the checkpoint that the learner has saved last; the values by the names that the log shows."""
    return validation(learner) | domain_probe(learner)
