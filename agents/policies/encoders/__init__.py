"""Encoders turn one array of one moment into numbers; the joined encoder puts those of all together.

Each encoder has a file of its own. Another package adds one by an entry point of the group
``simreal.encoders`` that names a subclass of :class:`Encoder`; ``--set encoder.image.kind=its-name`` takes
it, and its ``Settings`` are keys there.
"""

from simreal_agents.policies.encoders.base import Encoder, KeypointEncoder, SpatialSoftArgmax
from simreal_agents.policies.encoders.inputs import (
    DEPTH_UNIT_M,
    ENCODED,
    CloudConfig,
    encoded_features,
    needed_arrays,
    prepared,
    to_network,
)
from simreal_agents.policies.encoders.joined import Branch, EncoderConfig, JoinedEncoder
from simreal_agents.policies.encoders.registry import ENCODERS
from simreal_agents.policies.encoders.views import DomainView, ImageView, move

__all__ = [
    "DEPTH_UNIT_M", "ENCODED", "ENCODERS", "Branch", "CloudConfig", "DomainView", "Encoder", "EncoderConfig",
    "ImageView", "JoinedEncoder", "KeypointEncoder", "SpatialSoftArgmax", "encoded_features", "move",
    "needed_arrays", "prepared", "to_network",
]  # fmt: skip
