"""Configuration: presets, overrides, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.policies.config import (
    METHODS,
    TrainConfig,
    config_values,
    differences,
    load_config,
    presets,
)  # fmt: skip
from simreal_agents.policies.migrations import FORMAT_VERSION, MEANT_BEFORE, READABLE, read_config
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


def test_every_value_has_a_help_text() -> None:
    import inspect

    from simreal_agents.policies import config

    source = inspect.getsource(config)
    for key in config_values(TrainConfig()):
        name = key.split(".")[-1]
        assert f"    {name}: " in source
        declared = source.split(f"    {name}: ")[1].split("\n")
        assert declared[1].strip().startswith('"""'), key


# What is stored


def without(values: Mapping[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    """Nested values without the dotted ``keys``."""
    return {
        name: without(value, keys, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in values.items()
        if f"{prefix}{name}" not in keys
    }


PAPER = load_config("paper", "uot")
KEYS = sorted(config_values(PAPER))


@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_a_stored_configuration_that_lacks_keys_is_an_error_that_names_them(lost: set[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_config(without(PAPER.to_dict(), lost), FORMAT_VERSION, "runs/a/config.json")
    assert "runs/a/config.json" in str(caught.value)
    named = str(caught.value).partition(" lacks ")[2].removesuffix(".").split(", ")
    assert set(named) == lost


@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_a_key_that_came_later_means_what_was_done_before_it_and_nothing_else_is_filled_in(
    lost: set[str],
) -> None:
    oldest = min(READABLE)
    meant = {key: value for of_version in MEANT_BEFORE.values() for key, value in of_version.items()}
    stored = without(PAPER.to_dict(), lost)
    if lost <= meant.keys():
        expected = config_values(PAPER) | {key: meant[key] for key in lost}
        assert config_values(read_config(stored, oldest, "config.json")) == expected
    else:
        with pytest.raises(DataError, match="lacks"):
            read_config(stored, oldest, "config.json")


def test_runs_from_before_the_choice_of_paths_were_paired_by_executed_ones() -> None:
    stored = without(load_config("cpu", "uot").to_dict(), {"pairing.path"})
    assert read_config(stored, 3, "config.json").pairing.path == "executed"
    chosen = load_config("cpu", "uot").to_dict()  # written by format 3 after the key was added
    assert read_config(chosen, 3, "config.json").pairing.path == "commanded"


def test_what_migrations_fill_in_are_keys_and_values_of_today() -> None:
    for version, meant in MEANT_BEFORE.items():
        assert version - 1 in READABLE
        for key, value in meant.items():
            said = "null" if value is None else value
            assert config_values(load_config(overrides=[f"{key}={said}"]))[key] == value


def test_a_stored_configuration_of_another_version_is_refused() -> None:
    values = PAPER.to_dict()
    with pytest.raises(DataError, match=r"config\.json.*'momentum'"):
        read_config(values | {"momentum": 1}, FORMAT_VERSION, "config.json")
    for version in (FORMAT_VERSION + 1, min(READABLE) - 1, None, "4"):
        with pytest.raises(DataError, match=r"config\.json has format version"):
            read_config(values, version, "config.json")
