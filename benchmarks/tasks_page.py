"""Makes docs/tasks.md and its pictures: every task in both start regions, with what was measured.

    python benchmarks/tasks_page.py

Figures are those of docs/figures/tasks/, which `python benchmarks/tasks.py` measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from inspect import getdoc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simreal_agents.actors.experts import make_expert
from simreal_agents.evaluation.statistics import wilson_interval
from simreal_agents.viewing.regions import COLOURS, start_regions
from simreal_envs.cameras import Camera
from simreal_envs.loop import run_episode
from simreal_envs.poses import pose
from simreal_envs.sim.renderer import Renderer
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks import JointStart, OnTable, Task, get_task
from simreal_envs.tasks.starts import Start

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "pictures" / "tasks"
FIGURES = DOCS / "figures" / "tasks"
ORDER = ("Lift", "MugLift", "BoxInBin", "Stack", "Drawer", "Square", "MugHang")

SIZE = (480, 640)
SEED = 3
ABOVE_M, FOCAL_PX = 1.1, 880.0
ARM_ASIDE_RAD = -1.9
NEAREST_OF_MIMICGEN = {"Stack": 94, "Square": 74, "MugLift": 30, "MugHang": 30, "Drawer": 50}
"""MimicGen's own success of attempts, in percent, on the task of its paper that is most alike."""


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in ORDER:
        picture(get_task(name)).save(PICTURES / f"{name}.jpg", quality=85)
    (DOCS / "tasks.md").write_text(page())


# --- pictures ---------------------------------------------------------------------------------------


def picture(task: Task) -> Image.Image:
    """Four views: a start in each region, a solved scene, and the start ranges from above."""
    views = []
    for region in ("in", "ood"):
        made = gym.make(f"simreal/{task.name}-v0", quality="full", region=region, render_mode="rgb_array")
        with closing(made) as env:
            env.reset(seed=SEED)
            views.append((f"starts in region {region}", np.asarray(env.render())))
            if region == "ood":
                run_episode(env, make_expert(env), seed=SEED)
                views.append(("solved", np.asarray(env.render())))
                env.reset(seed=SEED)
                views.append(("start ranges from above", from_above(task, env.unwrapped)))
    sheet = Image.new("RGB", (4 * SIZE[1] // 2, SIZE[0] // 2), "white")
    for number, (title, view) in enumerate(views):
        tile = Image.fromarray(view).resize((SIZE[1] // 2, SIZE[0] // 2), Image.Resampling.LANCZOS)
        label(ImageDraw.Draw(tile), (6, 6), title)
        sheet.paste(tile, (number * tile.width, 0))
    return sheet


def from_above(task: Task, world: Any) -> np.ndarray:
    """The table with the start ranges of both regions; the robot's base is beyond the lower border."""
    looks_down = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    height, width = SIZE
    k = np.array([[FOCAL_PX, 0, width / 2 - 0.5], [0, FOCAL_PX, height / 2 - 0.5], [0, 0, 1.0]])
    camera = Camera(SIZE, k, pose(looks_down, TABLE_CENTRE_IN_BASE_M + [0.0, 0.0, ABOVE_M]))
    state = world.sim_state()
    state[1] += ARM_ASIDE_RAD  # the first joint, after the time
    world.set_sim_state(state)
    renderer = Renderer(world.physics.model, camera, [], "full")
    image = Image.fromarray(renderer.render(world.physics.data)[0])
    renderer.close()
    draw = ImageDraw.Draw(image, "RGBA")
    for start in start_regions(task):
        box = camera.project(start.corners_in_base_m)
        (left, top), (right, bottom) = box.min(0), box.max(0)
        draw.rectangle((left, top, right, bottom), outline=COLOURS[start.region], width=4)
        label(draw, (left, bottom + 3), f"{start.entity} {start.region}", 22)
    return np.asarray(image)


def label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int = 14) -> None:
    """Text that can be read on any ground."""
    draw.text(at, text, "white", ImageFont.load_default(size), stroke_width=2, stroke_fill="black")


# --- text -------------------------------------------------------------------------------------------


def page() -> str:
    """docs/tasks.md."""
    figures = {name: json.loads((FIGURES / f"{name}.json").read_text()) for name in ORDER}
    sections = [section(get_task(name), figures[name]) for name in ORDER]
    return "\n".join([INTRODUCTION, summary(figures), *sections, variety(figures)])


INTRODUCTION = """\
# Tasks

This page is made by `python benchmarks/tasks_page.py` of the figures that `python benchmarks/tasks.py`
measures. Machine: two cores without a GPU, used by other programs too; an idle one is faster.

In the pictures from above the robot's base is beyond the lower border, x grows upwards and y to the left.
Green ranges are those of region `in`, where the target's demonstrations start. Orange ranges are those of
`ood`, which only the source shows. Blue ranges are the same in both.

- **Expert**: the scripted expert from 200 seeds in each region. The `varied` one has another manner in
  every episode ([experts](generation.md#experts)). Intervals are Wilson's, 95 %.
- **Generation**: attempts that succeed from ten demonstrations of the varied expert in region `in`, with
  3 mm of noise, in two processes that share two busy cores. *Replayed* says how many of the generated
  demonstrations solve the task again when their recorded actions are carried out blindly.
- **Learning**: a policy of state, trained on the 200 generated demonstrations of region `in` and tested from
  100 test seeds of that region. Settings are the defaults (6,000 updates), but for Square, where they were
  chosen on selection seeds among three: the defaults had solved 22 of 50 episodes there.
"""


def percent(solved: int, episodes: int) -> str:
    """``98/100 [93, 99] %``."""
    low, high = wilson_interval(solved, episodes)
    return f"{solved}/{episodes} [{100 * low:.0f}, {100 * high:.0f}] %"


def table(*rows: tuple[Any, ...]) -> str:
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:], ""])


def summary(figures: dict[str, dict[str, Any]]) -> str:
    """One row a task."""
    head = ("task", "expert, in / ood", "generation, in / ood", "learning from state")
    rows = [
        (
            f"[{name}](#{name.lower()})",
            " / ".join(f"{of['expert']['plain'][r]['solved']}" for r in ("in", "ood")) + " of 200",
            " / ".join(f"{100 * rate(of['generation'][r]):.0f}" for r in ("in", "ood")) + " %",
            percent(of["learning"]["solved"], of["learning"]["episodes"]),
        )
        for name, of in figures.items()
    ]
    return table(head, *rows)


def rate(generation: dict[str, Any]) -> float:
    """Success of attempts."""
    return float(generation["succeeded"] / generation["attempts"])


def section(task: Task, figures: dict[str, Any]) -> str:
    """One task."""
    rule = " ".join((getdoc(type(task)) or "").split())
    expert, generation, world = (figures[key] for key in ("expert", "generation", "world"))
    rows: list[tuple[Any, ...]] = [("", "`in`", "`ood`")]
    for style in ("plain", "varied"):
        rows.append(
            (f"expert, {style}", *(percent(e["solved"], e["episodes"]) for e in by_region(expert[style])))
        )
        rows.append(
            (f"median steps, {style}", *(f"{e['median_steps']:.0f}" for e in by_region(expert[style])))
        )
    rows.append(("generation", *(percent(g["succeeded"], g["attempts"]) for g in by_region(generation))))
    rows.append(("demonstrations an hour", *(g["an_hour"] or "not timed" for g in by_region(generation))))
    both = f"{generation['with_images_an_hour']} with the images of two cameras"
    rows.append(("demonstrations an hour, both regions", both, ""))
    rows.append(
        ("replayed", *(percent(g["replayed_open_loop"], g["succeeded"]) for g in by_region(generation)))
    )
    lines = [
        f"## {task.name}",
        "",
        f"*{task.instruction}* {rule}",
        "",
        f"![{task.name}](pictures/tasks/{task.name}.jpg)",
        "",
        f"Stages: {', '.join(task.stages)}. Parts for generation: "
        + ", ".join(f"{part.name} (relative to `{part.reference}`)" for part in task.subtasks)
        + ".",
        "",
        table(("starts", "`in`", "`ood`"), *((f"`{name}`", *starts) for name, starts in start_rows(task))),
        table(*rows),
        learning_text(figures["learning"]),
        f"World: {world['state']['steps_a_second']} steps a second with state, "
        f"{world['image']['steps_a_second']} with an image of 72 x 96; a process takes "
        f"{world['image']['memory_mb']} MB with images. "
        + (
            "Two processes play the same episode bit for bit."
            if deterministic(world)
            else "NOT deterministic."
        ),
        "",
    ]
    if task.name in NEAREST_OF_MIMICGEN:
        lines[-1:] = [
            "",
            f"MimicGen reports {NEAREST_OF_MIMICGEN[task.name]} % on the most similar of its tasks.",
            "",
        ]
    return "\n".join(lines)


def variety(figures: dict[str, dict[str, Any]]) -> str:
    """How different the demonstrations are, given and generated."""
    text = """\
## How different the demonstrations are

Of the ten that were given and of those that were generated: the standard deviation of the first object's
start along x and y; the 5, 50 and 95 % quantiles of steps and of the length of the hand's path; and how far
a demonstration's path is from the most similar other one (mean over 50 moments, median over them all).
"""
    rows: list[tuple[Any, ...]] = [("task", "which", "start, mm", "steps", "path, m", "to the next, mm")]
    for name, of in figures.items():
        for which, title in (("demonstrations", "given"), ("in", "`in`"), ("ood", "`ood`")):
            v = of["generation"][which]
            start = " x ".join(f"{sd:.0f}" for sd in v["start_sd_mm"])
            steps = ", ".join(f"{q:.0f}" for q in v["steps"])
            path = ", ".join(f"{q:.2f}" for q in v["path_m"])
            rows.append((name, title, start, steps, path, f"{v['nearest_path_mm']:.0f}"))
    return text + "\n" + table(*rows)


def by_region(figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [figures[region] for region in ("in", "ood")]


def deterministic(world: dict[str, Any]) -> bool:
    return all(of["deterministic"] for of in world.values())


def learning_text(of: dict[str, Any]) -> str:
    """What was trained, how, and where it failed."""
    failed = ", ".join(f"{stage} {count}" for stage, count in sorted(of["failed_at"].items()))
    where = f" The others failed at: {failed}." if failed else ""
    took = f", {of['train_minutes']} minutes" if of["train_minutes"] else ""
    solved = percent(of["solved"], of["episodes"])
    return (
        f"Learning from state: {solved}, median {of['median_steps']:.0f} steps "
        f"(`{of['settings']}`{took}).{where}\n"
    )


def start_rows(task: Task) -> Iterator[tuple[str, list[str]]]:
    """For each thing that starts somewhere, its range in each region, base frame for what is on the table."""
    for name in task.starts["in"]:
        yield name, [start_text(task.starts[region][name]) for region in ("in", "ood")]
    for name, (x, y, yaw) in task.fixed.items():
        yield name, [start_text(OnTable((x, x), (y, y), (yaw, yaw)))] * 2


def start_text(start: Start) -> str:
    """A range in words: metres in the base frame, degrees."""
    if isinstance(start, JointStart):
        return f"{start.low:g} to {start.high:g}"
    origin = TABLE_CENTRE_IN_BASE_M[:2] if isinstance(start, OnTable) else np.zeros(2)
    x, y = (np.round(np.array(limits) + o, 3) for limits, o in zip((start.x, start.y), origin, strict=True))
    yaw = np.round(np.rad2deg(start.yaw)).astype(int)
    text = f"x {x[0]:g} to {x[1]:g}, y {y[0]:g} to {y[1]:g}"
    text += f", yaw {yaw[0]} to {yaw[1]}°" if yaw[0] != yaw[1] else f", yaw {yaw[0]}°"
    return text if isinstance(start, OnTable) else f"on `{start.of}`: {text}"


if __name__ == "__main__":
    main()
