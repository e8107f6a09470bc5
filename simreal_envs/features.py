"""Every array of an observation by name, and the test whether data, policies and worlds fit together.

A world's :class:`WorldSpec` is stored with each episode and each checkpoint. Its methods ``differences`` and
``lacks`` alone decide whether data, policies and environments fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from simreal_envs.cameras import CAMERA_SPECS
from simreal_envs.errors import DataError, UsageError, unknown
from simreal_envs.spec import CONTROL_HZ, OBJECT_KEY, PROPRIOCEPTION, Observation

CAMERAS = tuple(CAMERA_SPECS)
DEFAULT_CAMERAS = ("agentview",)
GROUPS = ("state", "image", "depth", "pointcloud", "pointcolour")
"""What ``obs`` may name, in this order."""

DEFAULT_IMAGE_SIZE = (72, 96)
"""(height, width) in pixels; the camera's own 4:3, since a square would cut the table's corners off."""
DEFAULT_POINTS, MAX_POINTS = 1024, 16384
MAX_HISTORY = 16

POINTS_KEY = "pointcloud"
"""(N, 3) float32 metres, base frame."""
POINT_COLOUR_KEY = "pointcloud_rgb"
"""(N, 3) uint8 RGB of the same points."""


def image_key(camera: str) -> str:
    """``<camera>_image``, as robosuite names it: (H, W, 3) uint8 RGB."""
    return f"{camera}_image"


def depth_key(camera: str) -> str:
    """``<camera>_depth``: (H, W) float32 metres along the optical axis; 0 where there is no reading."""
    return f"{camera}_depth"


@dataclass(frozen=True)
class Feature:
    """One array of an observation.

    Attributes:
        key: its name in the observation.
        modality: ``proprioception``, ``state``, ``image``, ``depth`` or ``pointcloud``.
        shape: of one moment.
        dtype: numpy's name of it.
        unit: of its numbers.
        camera: which camera sees it, or which ones joined by ``+``; empty if none does.
    """

    key: str
    modality: str
    shape: tuple[int, ...]
    dtype: str
    unit: str
    camera: str = ""

    def box(self, history: int = 1) -> spaces.Box:
        """The array's Gymnasium space; a history of several moments is a leading axis, the oldest first."""
        shape = self.shape if history == 1 else (history, *self.shape)
        if self.dtype == "uint8":
            return spaces.Box(0, 255, shape, np.uint8)
        low = 0.0 if self.modality == "depth" else -np.inf
        return spaces.Box(low, np.inf, shape, np.dtype(self.dtype).type)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Feature:
        """The inverse of :meth:`to_json`; a DataError says what is wrong."""
        try:
            feature = cls(**{**values, "shape": tuple(int(n) for n in values["shape"])})
            np.dtype(feature.dtype)
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(f"its feature {values!r:.80} cannot be read ({error})") from error
        return feature

    def __str__(self) -> str:
        by = f" of {self.camera}" if self.modality == "pointcloud" else ""
        return f"{self.key} {self.dtype} {self.shape}{by}"


_UNITS = {"robot0_eef_quat": "quaternion xyzw", "robot0_joint_pos": "rad"}
PROPRIOCEPTIVE = tuple(
    Feature(key, "proprioception", (length,), "float32", _UNITS.get(key, "m"))
    for key, length in PROPRIOCEPTION.items()
)


@dataclass(frozen=True)
class ObservationSpec:
    """What a world is asked to show, beside proprioception, which always comes along.

    Attributes:
        groups: subset of :data:`GROUPS`, in that order.
        image_size: (height, width) of images and depth in pixels.
        cameras: subset of :data:`CAMERAS`, in that order; a point cloud joins what all of them see.
        points: number of points of a point cloud.
        history: moments in one observation, the oldest first. After a reset the first moment is repeated in
            place of the missing earlier ones.
    """

    groups: tuple[str, ...]
    image_size: tuple[int, int] = DEFAULT_IMAGE_SIZE
    cameras: tuple[str, ...] = DEFAULT_CAMERAS
    points: int = DEFAULT_POINTS
    history: int = 1

    @classmethod
    def parse(
        cls,
        obs: str | Iterable[str],
        image_size: Iterable[int] = DEFAULT_IMAGE_SIZE,
        cameras: str | Iterable[str] = DEFAULT_CAMERAS,
        points: int = DEFAULT_POINTS,
        history: int = 1,
    ) -> ObservationSpec:
        """Read ``"image+depth"``, a size, ``"agentview+wrist"`` or the cameras' names, and two numbers.

        >>> ObservationSpec.parse("depth+image").groups
        ('image', 'depth')

        Raises:
            UsageError: an unknown group or camera, one named twice, or a number out of range.
        """
        groups = _names("observation", obs, GROUPS)
        chosen = _names("camera", cameras, CAMERAS)
        size = tuple(image_size) if isinstance(image_size, Iterable) else (image_size,)
        if len(size) != 2 or not all(_is_whole(s, 8, 2048) for s in size):
            raise UsageError(f"image_size {size} must be (height, width), each from 8 to 2048 pixels.")
        for what, number, most in (("points", points, MAX_POINTS), ("history", history, MAX_HISTORY)):
            if not _is_whole(number, 1, most):
                raise UsageError(f"{what} {number} must be a whole number from 1 to {most}.")
        return cls(groups, (int(size[0]), int(size[1])), chosen, int(points), int(history))

    @classmethod
    def of(cls, features: Sequence[Feature], history: int = 1) -> ObservationSpec:
        """The observation spec that a world needs to show these features.

        Raises:
            UsageError: no world of ours shows one of them.
        """
        of_key = {POINTS_KEY: "pointcloud", POINT_COLOUR_KEY: "pointcolour"}
        groups = {of_key.get(f.key, f.modality) for f in features}
        sizes = {f.shape[:2] for f in features if f.modality in ("image", "depth")}
        points = {f.shape[0] for f in features if f.modality == "pointcloud"}
        seeing = {name for f in features for name in f.camera.split("+")}
        cameras = tuple(name for name in CAMERAS if name in seeing) or DEFAULT_CAMERAS
        if len(sizes) > 1 or len(points) > 1:
            raise UsageError(
                f"No world shows images of sizes {sorted(sizes)} and clouds of {sorted(points)} points."
            )
        return cls(
            tuple(group for group in GROUPS if group in groups),
            next(iter(sizes), DEFAULT_IMAGE_SIZE),  # type: ignore[arg-type]
            cameras,
            next(iter(points), DEFAULT_POINTS),
            history,
        )

    def features(self, num_objects: int) -> tuple[Feature, ...]:
        """Every array of the observation; ``num_objects`` is the task's number of objects."""
        found = [*PROPRIOCEPTIVE]
        if "state" in self.groups:
            found.append(Feature(OBJECT_KEY, "state", (7 * num_objects,), "float32", "m, quaternion xyzw"))
        for camera in self.cameras:
            if "image" in self.groups:
                found.append(
                    Feature(image_key(camera), "image", (*self.image_size, 3), "uint8", "RGB", camera)
                )
            if "depth" in self.groups:
                found.append(Feature(depth_key(camera), "depth", self.image_size, "float32", "m", camera))
        every = "+".join(self.cameras)
        if "pointcloud" in self.groups:
            found.append(Feature(POINTS_KEY, "pointcloud", (self.points, 3), "float32", "m", every))
        if "pointcolour" in self.groups:
            found.append(Feature(POINT_COLOUR_KEY, "pointcloud", (self.points, 3), "uint8", "RGB", every))
        return tuple(found)

    @property
    def sees_points(self) -> bool:
        """Whether a point cloud has to be made."""
        return bool({"pointcloud", "pointcolour"} & set(self.groups))


@dataclass(frozen=True)
class WorldSpec:
    """The properties that an episode, a policy and a world must share to be used together.

    Attributes:
        task: its name.
        action_kind: see :data:`simreal_envs.spec.ACTION_KINDS`.
        features: the arrays that are shown, or those that a policy reads.
        history: moments in one observation.
        control_hz: actions a second.
    """

    task: str
    action_kind: str
    features: tuple[Feature, ...]
    history: int = 1
    control_hz: float = CONTROL_HZ

    @property
    def space(self) -> spaces.Dict:
        """The Gymnasium space of the observations."""
        return spaces.Dict({f.key: f.box(self.history) for f in self.features})

    @property
    def one_moment(self) -> WorldSpec:
        """The same spec for single moments, as episodes are stored."""
        return replace(self, history=1)

    def feature(self, key: str) -> Feature:
        """The feature of this name; a DataError lists those there are."""
        for feature in self.features:
            if feature.key == key:
                return feature
        raise DataError(f"There is no {key!r}. There are: {', '.join(f.key for f in self.features)}.")

    def of(self, modality: str) -> tuple[Feature, ...]:
        """The features of a modality."""
        return tuple(f for f in self.features if f.modality == modality)

    def differences(self, other: WorldSpec) -> list[str]:
        """The properties in which ``other`` differs, one phrase each; empty if the two are alike."""
        own, theirs = ({f.key: f for f in spec.features} for spec in (self, other))
        missing = [f"{theirs[key]} only" for key in theirs if key not in own]
        return [*self.lacks(other), *missing]

    def lacks(self, offered: WorldSpec) -> list[str]:
        """What ``offered`` lacks or has otherwise, one phrase each; further arrays do not matter."""
        problems = []
        for what in ("task", "action_kind", "control_hz", "history"):
            here, there = getattr(self, what), getattr(offered, what)
            if here != there:
                problems.append(f"{what} is {there!r} instead of {here!r}")
        there = {f.key: f for f in offered.features}
        for feature in self.features:
            if feature.key not in there:
                problems.append(f"{feature.key} is not there")
            elif (found := there[feature.key]) != feature:
                problems.append(f"{found} instead of {feature}")
        return problems

    def to_json(self) -> dict[str, Any]:
        """JSON-able; the keys are those of an episode's metadata."""
        return {
            "task": self.task,
            "action_kind": self.action_kind,
            "features": [feature.to_json() for feature in self.features],
            "history": self.history,
            "control_hz": self.control_hz,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WorldSpec:
        """The inverse of :meth:`to_json`, whatever else ``values`` hold; a DataError says what is wrong."""
        for key, kind in (("task", str), ("action_kind", str), ("features", list), ("history", int)):
            if type(values.get(key)) is not kind:
                raise DataError(f"its {key} is {values.get(key)!r:.40}, not a {kind.__name__}")
        if type(values.get("control_hz")) not in (int, float):
            raise DataError(f"its control_hz is {values.get('control_hz')!r:.40}, not a number")
        features = tuple(Feature.from_json(feature) for feature in values["features"])
        return cls(values["task"], values["action_kind"], features, values["history"], values["control_hz"])


def hint(needed: WorldSpec) -> str:
    """The arguments of ``gymnasium.make`` that make a world show what is needed.

    >>> hint(WorldSpec("Lift", "pose", ObservationSpec(("image",), (84, 84)).features(1)))
    "obs='image', image_size=(84, 84), cameras=('agentview',)"
    """
    spec = ObservationSpec.of(needed.features, needed.history)
    parts = [f"obs={'+'.join(spec.groups) or 'state'!r}"]
    if {"image", "depth"} & set(spec.groups):
        parts.append(f"image_size={spec.image_size}")
    if set(spec.groups) - {"state"}:
        parts.append(f"cameras={spec.cameras}")
    if spec.sees_points:
        parts.append(f"points={spec.points}")
    if spec.history > 1:
        parts.append(f"history={spec.history}")
    return ", ".join(parts)


class History:
    """The last moments of an episode, put together in one observation."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._moments: list[Observation] = []

    def begin(self, observation: Observation) -> Observation:
        """The observation after a reset."""
        self._moments = [observation] * self._length
        return self._together()

    def add(self, observation: Observation) -> Observation:
        """The observation after a step."""
        self._moments = [*self._moments[1:], observation]
        return self._together()

    def _together(self) -> Observation:
        if self._length == 1:
            return self._moments[0]
        return {key: np.stack([moment[key] for moment in self._moments]) for key in self._moments[0]}


def _is_whole(number: Any, least: int, most: int) -> bool:
    """Whether a caller gave a whole number in this range, as an int, a float or one of numpy's."""
    is_number = isinstance(number, int | float | np.number) and not isinstance(number, bool)
    return is_number and least <= number <= most and int(number) == number


def _names(what: str, names: str | Iterable[str], valid: Sequence[str]) -> tuple[str, ...]:
    """The names in the order of ``valid``; a UsageError for one that is not valid or given twice."""
    if not isinstance(names, Iterable):
        raise unknown(what, str(names), valid)
    given = tuple(names.split("+") if isinstance(names, str) else names)
    for name in given:
        if name not in valid:
            raise unknown(what, name, valid)
        if given.count(name) > 1:
            raise UsageError(f"{what.capitalize()} {name!r} is named twice.")
    if not given:
        raise UsageError(f"At least one {what} is needed. Valid: {', '.join(valid)}.")
    return tuple(name for name in valid if name in given)
