"""Encoders by name. Each is imported when a configuration names it, so that none costs the others time."""

from __future__ import annotations

from simreal_agents.policies.encoders.base import Encoder
from simreal_envs.plugins import Registry

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    "simreal.encoders",
    {
        "cnn": "simreal_agents.policies.encoders.cnn:CNN",
        "resnet18": "simreal_agents.policies.encoders.resnet18:ResNet18",
        "pretrained": "simreal_agents.policies.encoders.pretrained:Pretrained",
        "pointnet": "simreal_agents.policies.encoders.pointnet:PointNet",
    },
    Encoder,
)
