"""Action heads: from a condition (feature and proprioception) to a chunk of normalised actions.

Each head has a file of its own. Another package adds one by an entry point of the group ``simreal.heads``
that names a subclass of :class:`Head`; ``--set head.kind=its-name`` takes it, and its ``Settings`` are keys
there.
"""

from simreal_agents.policies.heads.base import Head
from simreal_agents.policies.heads.registry import HEADS

__all__ = ["HEADS", "Head"]
