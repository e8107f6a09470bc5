"""Heads by name. Each is imported when a configuration names it, so that none costs the others time."""

from __future__ import annotations

from simreal_agents.policies.heads.base import Head
from simreal_envs.plugins import Registry

HEADS: Registry[type[Head]] = Registry(
    "head",
    "simreal.heads",
    {
        "mse": "simreal_agents.policies.heads.mse:MSEHead",
        "flow": "simreal_agents.policies.heads.flow:FlowHead",
        "diffusion": "simreal_agents.policies.heads.diffusion:DiffusionHead",
    },
    Head,
)
