"""The training methods: one row each, which every encoder and every head can be trained by.

The module imports nothing, so that the command line can list the methods without loading torch.
"""

from __future__ import annotations

from typing import NamedTuple

DOMAINS = ("source", "target")


class Method(NamedTuple):
    """What a training method clones, and what it does about the difference between the domains.

    Attributes:
        uses_source, uses_target: the domains whose demonstrations it clones.
        alignment: how it aligns the domains' features, a kind of ``simreal_agents.policies.alignments``.
        summary: what it does, in a few words.
        domain_token: whether the head is told which domain it acts in.
        finetunes: whether it clones the source first and after that the target, not both at once.
    """

    uses_source: bool
    uses_target: bool
    alignment: str
    summary: str
    domain_token: bool = False
    finetunes: bool = False


METHODS = {
    "source": Method(True, False, "none", "clone the source only"),
    "target": Method(False, True, "none", "clone the target only"),
    "cotrain": Method(True, True, "none", "clone both, no alignment"),
    "token": Method(True, True, "none", "clone both, tell the head the domain", domain_token=True),
    "finetune": Method(True, True, "none", "clone the source, then fine-tune on the target", finetunes=True),
    "mmd": Method(True, True, "mmd", "clone both, align the marginals of the features"),
    "ot": Method(True, True, "ot", "clone both, align features and labels jointly by balanced transport"),
    "uot": Method(True, True, "uot", "clone both, align jointly by unbalanced transport"),
    "diagonal": Method(True, True, "diagonal", "clone both, align the sampled pairs alone"),
    "coral": Method(True, True, "coral", "clone both, align the covariances of the features"),
    "dann": Method(True, True, "dann", "clone both, align by an adversary that tells the domains apart"),
    "contrastive": Method(True, True, "contrastive", "clone both, tell sampled pairs from other pairs"),
}


def method_that_aligns_by(kind: str) -> str:
    """The first method that clones both domains and aligns them by this kind.

    >>> method_that_aligns_by("none")
    'cotrain'
    """
    return next(
        name
        for name, method in METHODS.items()
        if method.uses_source and method.uses_target and method.alignment == kind
    )
