"""Configuration: presets, overrides, what is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.policies.alignments import ALIGNMENTS
from simreal_agents.policies.config import (
    TrainConfig,
    config_values,
    differences,
    load_config,
)  # fmt: skip
from simreal_agents.policies.encoders import ENCODERS
from simreal_agents.policies.heads import HEADS
from simreal_agents.policies.methods import METHODS, method_that_aligns_by
from simreal_agents.policies.migrations import (
    ALIGNED_BY,
    FORMAT_VERSION,
    MEANT_BEFORE,
    READABLE,
    by_kind,
    named_by_what_they_do,
    read_config,
)  # fmt: skip
from simreal_agents.policies.overrides import flatten
from simreal_agents.policies.presets import presets
from simreal_envs.errors import DataError, UsageError


def test_every_preset_loads_for_every_method_and_survives_json() -> None:
    for preset in presets():
        for method in METHODS:
            config = load_config(preset, method)
            assert config.alignment.kind == METHODS[method].alignment
            again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
            assert again == config
            assert differences(config, again) == []


def test_overrides_take_the_type_of_their_key() -> None:
    config = load_config(
        overrides=["alignment.tau=1e-3", "optim.updates=7", "data.source=2024", "data.target_demos=null",
                   "head.proprioception=[robot0_eef_pos]", "alignment.kind=uot"]
    )  # fmt: skip
    assert (config.alignment.tau, config.optim.updates, config.data.source) == (1e-3, 7, "2024")
    assert config.data.target_demos is None
    assert config.head.proprioception == ("robot0_eef_pos",)
    assert config.alignment.kind == "uot"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "alignment.tua=1",
            r"key 'alignment\.tua' where alignment\.kind is uot\. Valid: alignment\.kind, .*alignment\.tau",
        ),
        ("tau=1", r"Unknown config key 'tau'"),
        ("alignment=1", r"Valid: alignment\.kind, alignment\.weight"),
        ("seed.x=1", "Unknown config key"),
        ("optim.updates=many", "'many' is not of type int"),
        ("optim.updates=1.5", "not of type int"),
        ("alignment.tau=true", "not of type float"),
        ("head.kind=act", "Valid: mse, flow, diffusion"),
        ("alignment.tau=0", "must be positive"),
        ("alignment.tau=.nan", "must be positive"),
        ("alignment.weight=-1", "must not be negative"),
        ("alignment.weight=.inf", "must be finite"),
        ("alignment.tau=.inf", "must be positive and finite"),
        ("optim.ema_decay=1", "must be below 1"),
        (f"seed={2**63}", r"below 2\*\*63"),
        ("alignment.kind=auto", "Valid: none, uot, ot, diagonal, mmd, coral, dann, contrastive"),
        ("alignment.kind=mmd", r"= 'mmd' contradicts method 'uot'.* Valid: uot; mmd is .* method 'mmd'"),
        ("alignment.kind=none", r"= 'none' contradicts method 'uot'.* method 'cotrain'"),
        ("pairing.kind=dtw", "Valid: temporal, none, oracle"),
        ("head.steps=3", r"'head\.steps' where head\.kind is mse\. Valid: head\.kind, .*, head\.hidden\.$"),
        ("head.flow_steps=3", r"'head\.flow_steps' where head\.kind is mse"),
        ("alignment.kernel=rbf", r"'alignment\.kernel' where alignment\.kind is uot"),
        (
            "encoder.points.keypoints=3",
            r"is pointnet\. Valid: encoder\.points\.kind, encoder\.points\.width, encoder\.",
        ),
        ("encoder.width=16", r"Valid: encoder\.image\.kind, encoder\.image\.width, "),
        ("alignment.tau=[1", r"'\[1' is not YAML"),
        ("pairing.window=-1", "must not be negative"),
        ("seed=-1", "must not be negative"),
        ("optim.updates=0", "at least 1"),
        ("head.execute=9", r"head\.execute = 9 exceeds"),
        ("batch.target=0.5", "not 1"),
        ("head.proprioception=[robot0_eef_vel]", "robot0_eef_vel"),
        ("head.proprioception=[]", "must name one at least of robot0_eef_pos, "),
        ("encoder.image.width=12", "multiple of 8"),
        ("method=cotrain2", f"Valid: {', '.join(METHODS)}"),
        ("optim.updates", "must be key=value"),
    ],
)
def test_a_bad_override_is_named_with_what_is_valid(override: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_config(overrides=[override])


def test_unknown_presets_and_methods_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"Valid: cpu-diffusion, .*, paper-pointcloud, a file that ends with"
    ):
        load_config("gpu")
    with pytest.raises(UsageError, match=f"Valid: {', '.join(METHODS)}"):
        load_config("cpu-image", "bc")


def test_a_kind_decides_the_keys_in_whatever_order_they_are_given() -> None:
    given = ("head.kind=flow", "head.steps=9", "head.execute=2", "method=mmd", "alignment.kernel=rbf")
    for order in permutations(given):
        config = load_config(overrides=order)
        head, alignment = config.to_dict()["head"], config.to_dict()["alignment"]
        assert (head["kind"], head["steps"], head["execute"]) == ("flow", 9, 2)
        assert (alignment["kind"], alignment["kernel"]) == ("mmd", "rbf")
        assert "tau" not in alignment


def test_another_kind_has_its_own_defaults_and_keeps_what_both_inherit() -> None:
    paper, other = (
        load_config("paper-image", *choices).to_dict() for choices in (("uot", []), ("ot", ["head.kind=mse"]))
    )
    assert other["head"].keys() - paper["head"].keys() == {"hidden"}
    assert "steps" not in other["head"]
    assert "tau" not in other["alignment"]
    for section in ("head", "alignment"):
        for key in other[section].keys() - {"kind", "hidden"}:
            assert other[section][key] == paper[section][key]
    cnn = load_config("paper-image", "uot", ["encoder.points.kind=cnn"]).to_dict()["encoder"]
    assert cnn["points"] == {"kind": "cnn", "width": 16, "stem_stride": 4, "keypoints": 16}
    assert cnn["image"] == paper["encoder"]["image"]
    same = load_config("paper-image", "uot", ["head.kind=diffusion"])
    assert same == load_config("paper-image", "uot")


def test_a_method_chosen_by_a_setting_is_the_method() -> None:
    assert load_config("cpu-image", "uot", ["method=mmd"]) == load_config("cpu-image", "mmd")


def test_configurations_of_different_kinds_differ_in_keys() -> None:
    found = differences(load_config(), load_config(overrides=["head.kind=flow"]))
    assert found == ["head.kind: mse -> flow", "head.hidden: 256 -> 1024", "head.steps: absent -> 5"]


def test_every_value_has_a_help_text() -> None:
    classes: list[type] = [TrainConfig, *ALIGNMENTS.values()]
    classes += [made.Settings for made in (*ENCODERS.loaded().values(), *HEADS.loaded().values())]
    classes += [type(getattr(TrainConfig(), field.name)) for field in fields(TrainConfig)]
    for cls in {base for each in classes if is_dataclass(each) for base in each.__mro__[:-1]}:
        source = [line.strip() for line in inspect.getsource(cls).split("\n")]
        for name in inspect.get_annotations(cls):
            if not is_dataclass(getattr(TrainConfig(), name, None)):  # a section explains itself
                declared = next(i for i, line in enumerate(source) if line.startswith(f"{name}: "))
                assert source[declared + 1].startswith('"""'), (cls, name)


# What is stored


def without(values: Mapping[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    """Nested values without the dotted ``keys``."""
    return {
        name: without(value, keys, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in values.items()
        if f"{prefix}{name}" not in keys
    }


FLOW = load_config("cpu-image", "uot", ["head.kind=flow"])
KEYS = sorted(config_values(FLOW))
FORMAT_5 = Path(__file__).parent / "data" / "config_format_5"
STORED: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in FORMAT_5.glob("*.json")
}
"""What simreal wrote when it had one set of keys for every kind."""
for values in STORED.values():
    assert values.pop("format_version") == 5
LATER = {key: value for version, meant in MEANT_BEFORE.items() if version > 5 for key, value in meant.items()}
"""What came after that."""
AS_BEFORE = [
    f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in LATER.items()
]


@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_a_stored_configuration_that_lacks_keys_is_an_error_that_names_them(lost: set[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_config(without(FLOW.to_dict(), lost), FORMAT_VERSION, "runs/a/config.json")
    assert "runs/a/config.json" in str(caught.value)
    named = set(str(caught.value).partition(" lacks ")[2].removesuffix(".").split(", "))
    assert named == lost - ({"head.steps"} if "head.kind" in lost else set())  # which other kinds lack too


@given(st.sets(st.sampled_from(sorted(dict(flatten(STORED["paper-uot"])))), min_size=1))
def test_a_key_that_came_later_means_what_was_done_before_it_and_nothing_else_is_filled_in(
    lost: set[str],
) -> None:
    oldest = min(READABLE)
    meant = {key: value for of_version in MEANT_BEFORE.values() for key, value in of_version.items()}
    stored = without(STORED["paper-uot"], lost)
    ignored = {"alignment.mmd_kernel"}
    if lost <= meant.keys() | ignored:
        there = dict(flatten(STORED["paper-uot"]))
        expected = there | {key: meant[key] for key in meant if key in lost or key not in there}
        assert config_values(read_config(stored, oldest, "config.json")) == named_by_what_they_do(
            by_kind(expected)
        )
    else:
        with pytest.raises(DataError, match="lacks"):
            read_config(stored, oldest, "config.json")


def test_runs_from_before_the_choice_of_paths_were_paired_by_executed_ones() -> None:
    stored = STORED["cpu-mmd"]
    assert read_config(without(stored, {"pairing.path"}), 3, "config.json").pairing.path == "executed"
    # written by format 3 after the key was added
    assert read_config(stored, 3, "config.json").pairing.path == "commanded"


def test_what_migrations_fill_in_are_keys_and_values_of_their_version() -> None:
    for version, meant in MEANT_BEFORE.items():
        assert version - 1 in READABLE
        if version <= 5:
            stored = dict(flatten(STORED["cpu-mmd"]))
            assert meant.keys() <= stored.keys()
            read_config(stored | meant, 5, "config.json")


def test_a_key_that_came_later_is_filled_in_for_the_kinds_that_have_it() -> None:
    stored = load_config("cpu-image", "uot", ["encoder.points.kind=cnn"]).to_dict()
    assert read_config(without(stored, {"encoder.cloud.every"}), 6, "config.json").encoder.cloud.every == 1
    stored = load_config("cpu-image", "uot").to_dict()
    read = read_config(without(stored, {"encoder.points.project"}), 6, "config.json")
    assert read.to_dict()["encoder"]["points"]["project"] == 0


def test_flat_settings_become_those_of_the_kinds_that_were_chosen() -> None:
    paper = read_config(STORED["paper-uot"], 5, "config.json")
    assert paper == load_config(str(FORMAT_5 / "paper.yaml"), "uot", AS_BEFORE)
    mmd = [
        *AS_BEFORE,
        "encoder.points.width=32",
        "alignment.kernel=rbf",
        "encoder.image.keypoints=24",
        "observation.obs=image+pointcloud",
    ]
    assert read_config(STORED["cpu-mmd"], 5, "config.json") == load_config("cpu-image", "mmd", mmd)


@pytest.mark.parametrize("kind", [*ALIGNED_BY, "auto"])
def test_every_alignment_that_was_stored_is_read_with_the_keys_it_used(kind: str) -> None:
    stored = dict(flatten(STORED["paper-uot"])) | {"alignment.kind": kind, "alignment.mmd_kernel": "rbf"}
    config = read_config(stored, 5, "config.json")
    chosen = "uot" if kind == "auto" else kind
    assert config.method == method_that_aligns_by(chosen)
    read = config.to_dict()["alignment"]
    assert read.pop("kind") == chosen
    if chosen == "mmd":
        assert read.pop("kernel") == "rbf"
    assert set(read) == set(ALIGNED_BY[chosen]) - {"mmd_kernel"}
    assert all(value == stored[f"alignment.{key}"] for key, value in read.items())


def test_pairings_of_earlier_formats_have_todays_names() -> None:
    today = config_values(load_config())
    for version in (5, 6):
        for before, now in (("dtw", "temporal"), ("random", "none")):
            stored = dict(flatten(STORED["paper-uot"])) if version == 5 else today
            read = read_config(stored | {"pairing.kind": before}, version, "config.json")
            assert read.pairing.kind == now
    with pytest.raises(DataError, match=r"Valid: temporal, none, oracle"):
        read_config(today | {"pairing.kind": "dtw"}, FORMAT_VERSION, "config.json")


def test_every_kind_of_alignment_is_what_a_method_does() -> None:
    assert {method.alignment for method in METHODS.values()} == set(ALIGNMENTS)


def test_what_no_key_of_any_format_means_is_refused_in_earlier_ones_too() -> None:
    with pytest.raises(DataError, match=r"config\.json.*'head\.momentum'"):
        read_config(dict(flatten(STORED["paper-uot"])) | {"head.momentum": 1}, 5, "config.json")
    with pytest.raises(DataError, match=r"Unknown method 'bc'"):
        read_config(STORED["paper-uot"] | {"method": "bc"}, 5, "config.json")


def test_a_stored_configuration_of_another_version_is_refused() -> None:
    values = FLOW.to_dict()
    with pytest.raises(DataError, match=r"config\.json.*'momentum'"):
        read_config(values | {"momentum": 1}, FORMAT_VERSION, "config.json")
    for version in (FORMAT_VERSION + 1, min(READABLE) - 1, None, "4"):
        with pytest.raises(DataError, match=r"config\.json has format version"):
            read_config(values, version, "config.json")
