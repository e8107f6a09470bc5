"""Configuration: presets, overrides, what is refused."""

from __future__ import annotations

import json

import pytest

from simreal_agents.config import (
    METHODS,
    TrainConfig,
    config_values,
    differences,
    load_config,
    presets,
    read_config,
)  # fmt: skip
from simreal_envs.errors import DataError, UsageError


def test_every_preset_loads_for_every_method_and_survives_json() -> None:
    for preset in presets():
        for method in METHODS:
            config = load_config(preset, method)
            assert config.alignment_kind == METHODS[method].alignment
            again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
            assert again == config
            assert differences(config, again) == []


def test_overrides_take_the_type_of_their_key() -> None:
    config = load_config(
        overrides=["alignment.tau=1e-3", "optim.updates=7", "data.source=2024", "data.target_demos=null",
                   "head.proprioception=[robot0_eef_pos]", "alignment.kind=diagonal"]
    )  # fmt: skip
    assert (config.alignment.tau, config.optim.updates, config.data.source) == (1e-3, 7, "2024")
    assert config.data.target_demos is None
    assert config.head.proprioception == ("robot0_eef_pos",)
    assert config.alignment_kind == "diagonal"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("alignment.tua=1", r"Unknown config key 'alignment\.tua'\. Valid: method, .*alignment\.tau"),
        ("tau=1", r"Unknown config key 'tau'"),
        ("alignment=1", r"Valid: alignment\.kind, alignment\.weight"),
        ("seed.x=1", "Unknown config key"),
        ("optim.updates=many", "'many' is not of type int"),
        ("optim.updates=1.5", "not of type int"),
        ("alignment.tau=true", "not of type float"),
        ("head.kind=diffusion", "Valid: mse, flow"),
        ("alignment.tau=0", "must be positive"),
        ("alignment.tau=.nan", "must be positive"),
        ("alignment.weight=-1", "must not be negative"),
        ("alignment.weight=.inf", "must be finite"),
        ("alignment.tau=[1", r"'\[1' is not YAML"),
        ("pairing.window=-1", "must not be negative"),
        ("seed=-1", "must not be negative"),
        ("optim.updates=0", "at least 1"),
        ("head.execute=9", r"head\.execute = 9 exceeds"),
        ("batch.target=0.5", "not 1"),
        ("head.proprioception=[robot0_eef_vel]", "robot0_eef_vel"),
        ("head.proprioception=[]", "must name one at least of robot0_eef_pos, "),
        ("encoder.width=12", "multiple of 8"),
        ("method=cotrain2", "Valid: source, target, cotrain, mmd, ot, uot"),
        ("optim.updates", "must be key=value"),
    ],
)
def test_a_bad_override_is_named_with_what_is_valid(override: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_config(overrides=[override])


def test_unknown_presets_and_methods_are_named() -> None:
    with pytest.raises(UsageError, match="Valid: cpu, cpu-large, paper"):
        load_config("gpu")
    with pytest.raises(UsageError, match="Valid: source, target, cotrain, mmd, ot, uot"):
        load_config("cpu", "bc")
    with pytest.raises(UsageError, match="has one domain"):
        load_config("cpu", "source", ["alignment.kind=uot"])
    with pytest.raises(DataError, match=r"config\.json was written by another version"):
        read_config({"momentum": 1}, "config.json")


def test_every_value_has_a_help_text() -> None:
    import inspect

    from simreal_agents import config

    source = inspect.getsource(config)
    for key in config_values(TrainConfig()):
        name = key.split(".")[-1]
        assert f"    {name}: " in source
        declared = source.split(f"    {name}: ")[1].split("\n")
        assert declared[1].strip().startswith('"""'), key
