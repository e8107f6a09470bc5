"""Where things may start: rectangles on the table, and what is no place on the table in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import viser

from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M, FloatArray
from simreal_envs.tasks import JointStart, OnTable, OnTop, Task

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {"in": (22, 130, 93), "ood": (214, 108, 14), "in and ood": (70, 90, 160)}
OVER_TABLE_M = 0.0015
"""So high over the table are the rectangles drawn, each after the first that much higher again."""


@dataclass(frozen=True)
class StartRegion:
    """Where one entity starts on the table.

    Attributes:
        region: ``in`` or ``ood``, or ``in and ood`` where both are the same.
        x_m, y_m: lower and upper limit of its place in the base frame.
        yaw_rad: limits of its turn.
    """

    entity: str
    region: str
    x_m: tuple[float, float]
    y_m: tuple[float, float]
    yaw_rad: tuple[float, float]

    @property
    def corners_in_base_m(self) -> FloatArray:
        """(4, 3), counter-clockwise, on the table."""
        (left, right), (low, high) = self.x_m, self.y_m
        return np.array([[left, low, 0.0], [right, low, 0.0], [right, high, 0.0], [left, high, 0.0]])


def start_regions(task: Task) -> list[StartRegion]:
    """The start of each entity that starts on the table."""
    centre = TABLE_CENTRE_IN_BASE_M
    return [
        StartRegion(
            name,
            region,
            (start.x[0] + centre[0], start.x[1] + centre[0]),
            (start.y[0] + centre[1], start.y[1] + centre[1]),
            start.yaw,
        )
        for name, region, start in _starts(task)
        if isinstance(start, OnTable)
    ]


def other_starts(task: Task) -> list[str]:
    """The starts that are no place on the table, one phrase each."""
    phrases = []
    for name, region, start in _starts(task):
        if isinstance(start, JointStart):
            phrases.append(f"{name}: {start.low:g} to {start.high:g} ({region})")
        elif isinstance(start, OnTop):
            phrases.append(
                f"{name}: on top of {start.of}, x {_between(start.x)} m, y {_between(start.y)} m, "
                f"yaw {_between(start.yaw)} rad ({region})"
            )
    return phrases


def _starts(task: Task) -> list[tuple[str, str, OnTable | OnTop | JointStart]]:
    """(name, region, start), regions that are alike only once."""
    found: list[tuple[str, str, OnTable | OnTop | JointStart]] = []
    for name, start in task.starts["in"].items():
        other = task.starts["ood"][name]
        if start == other:
            found.append((name, "in and ood", start))
        else:
            found += [(name, "in", start), (name, "ood", other)]
    return found


def _between(limits: tuple[float, float]) -> str:
    low, high = (round(limit, 3) for limit in limits)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def draw_regions(server: viser.ViserServer, task: Task) -> None:
    """Draw every start region on the table, with a label at its corner."""
    regions = start_regions(task)
    for i, region in enumerate(regions):
        name, colour = f"/regions/{region.entity} {region.region}", COLOURS[region.region]
        corners = region.corners_in_base_m + [0.0, 0.0, OVER_TABLE_M * (1 + i)]
        server.scene.add_mesh_simple(
            f"{name}/area", corners, np.array([[0, 1, 2], [0, 2, 3]]),
            color=colour, opacity=0.25, side="double", cast_shadow=False, receive_shadow=False,
        )  # fmt: skip
        border = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
        server.scene.add_line_segments(f"{name}/border", border, colour, thickness=0.003)
        server.scene.add_label(
            f"{name}/label", f"{region.entity}: {region.region}", position=_label_place(region, regions)
        )


def _label_place(region: StartRegion, regions: list[StartRegion]) -> FloatArray:
    """The corner that is farthest from the entity's other region: labels shall not lie over each other."""
    others = [other for other in regions if other.entity == region.entity and other != region]
    corners = region.corners_in_base_m
    away_from = others[0].corners_in_base_m.mean(axis=0) if others else np.array([10.0, 10.0, 0.0])
    return corners[np.linalg.norm(corners - away_from, axis=1).argmax()]
