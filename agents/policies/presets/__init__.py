"""Presets: settings of a training as files of data, of the package or the user's own.

A file holds settings by section. It may begin with those of another preset (``base``), and it may have
settings for single methods (``methods``), which go before the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from simreal_agents.policies.overrides import flatten
from simreal_envs.errors import UsageError, unknown

HERE = Path(__file__).parent


class Layer(NamedTuple):
    """Settings that are assigned together: where they come from, for errors, and values by dotted key."""

    where: str
    values: dict[str, Any]


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(file.stem for file in HERE.glob("*.yaml"))


def read_preset(preset: str, method: str) -> tuple[list[Layer], list[Layer]]:
    """What a preset sets, and what it sets for a method; the base comes before what begins with it.

    Args:
        preset: the name of one of the package, or a file, whose name ends with .yaml or .yml.

    Raises:
        UsageError: no such preset or file, one that is no mapping of sections, or bases in a circle.
    """
    general: list[Layer] = []
    of_method: list[Layer] = []
    seen: list[str] = []
    name, beside = preset, Path()
    while name:
        file = _file(name, beside)
        if str(file) in seen:
            raise UsageError(f"Preset {preset} begins with itself: {' -> '.join([*seen, str(file)])}.")
        seen.append(str(file))
        values = _read(file)
        base, methods = values.pop("base", ""), values.pop("methods", None) or {}
        own = (methods.get(method) or {}) if isinstance(methods, dict) else None
        if not isinstance(base, str) or not isinstance(own, dict):
            raise UsageError(
                f"Preset {file}: base must be the name of a preset, and methods must hold sections of "
                "settings for each method."
            )
        general.insert(0, Layer(f"Preset {file}", dict(flatten(values))))
        of_method.insert(0, Layer(f"Preset {file}, methods.{method}", dict(flatten(own))))
        name, beside = base, file.parent
    return general, of_method


def _file(name: str, beside: Path) -> Path:
    """The file of a preset; the path of a base is relative to the file that names it.

    Raises:
        UsageError: there is none of the package by that name, or no such file.
    """
    if name.endswith((".yaml", ".yml")):
        file = beside / name
        if not file.is_file():
            raise UsageError(f"There is no preset file {file}.")
        return file
    if name not in presets():
        raise unknown("preset", name, [*presets(), "a file that ends with .yaml"])
    return HERE / f"{name}.yaml"


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"Preset {file} cannot be read: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"Preset {file} must hold sections of settings, such as optim: {{updates: 3000}}.")
    return values
