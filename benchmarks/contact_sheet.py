"""A picture of every task under every shift that is seen: images, or depth and point clouds.

python benchmarks/contact_sheet.py --save docs/pictures/shifts.jpg
python benchmarks/contact_sheet.py --what depth --save docs/pictures/shifts-depth.jpg

An image delay is not to be seen in one picture and is left out; so are shifts of the physics.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from simreal_envs.shifts import PRESETS, SHIFTS
from simreal_envs.shifts.base import overridden
from simreal_envs.tasks import TASKS
from simreal_envs.world_config import WorldConfig

SEEN = {
    "images": {"build", "reset_camera", "reset_look", "sense_image"},
    "depth": {"build", "reset_camera", "sense_depth", "choose_points", "sense_points"},
}
"""The hooks that a picture shows."""
NEAR_M, FAR_M = 0.3, 1.2
X_M, Y_M, Z_M = (0.4, 0.8), (-0.2, 0.2), (0.0, 0.25)
"""The part of the base frame in which points are drawn, as seen from beyond the table."""
LABEL_PX = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--save", type=Path, required=True, help="a .jpg or .png")
    parser.add_argument("--what", choices=tuple(SEEN), default="images")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--shifts", nargs="*", help="all that the picture shows, if not given")
    parser.add_argument("--size", type=int, nargs=2, default=(108, 144), help="of one picture in pixels")
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    shifts = arguments.shifts or ["none", *shown_by(arguments.what)]
    size = (arguments.size[0], arguments.size[1])
    rows = []
    for task in arguments.tasks:
        row = [picture(arguments.what, task, shift, size, arguments.seed) for shift in shifts]
        rows.append(np.stack(row))
    sheet(np.stack(rows), arguments.tasks, shifts).save(arguments.save, quality=80)


def shown_by(what: str) -> list[str]:
    """The shifts that a picture shows, and for images the presets that are no other shift's name."""
    found = [name for name, kind in SHIFTS.loaded().items() if overridden(kind) & SEEN[what]]
    return found + [name for name, parts in PRESETS.items() if "+" in parts]


def picture(what: str, task: str, shift: str, size: tuple[int, int], seed: int) -> np.ndarray:
    """One picture (H, W, 3) uint8, after a reset; for depth a second one below it, of the point cloud."""
    obs = "image" if what == "images" else "depth+pointcloud"
    env = WorldConfig(task, shift=shift, obs=obs, image_size=size).make("all")
    observation, _ = env.reset(seed=seed)
    env.close()
    if what == "images":
        return observation["agentview_image"]
    return np.concatenate([coloured(observation["agentview_depth"]), drawn(observation["pointcloud"], size)])


def coloured(depth_m: np.ndarray) -> np.ndarray:
    """A depth image as colours (H, W, 3) uint8, dark red for near; black where there is no reading."""
    share = np.clip((depth_m - NEAR_M) / (FAR_M - NEAR_M), 0, 1)
    colours = (255 * colormaps["turbo_r"](share)[..., :3]).astype(np.uint8)
    colours[depth_m == 0] = 0
    return colours


def drawn(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A point cloud as seen along -x, y to the right and z up, coloured by x; a point has 2 x 2 pixels."""
    image = np.full((*size, 3), 255, np.uint8)
    scale_px = min((size[1] - 2) / (Y_M[1] - Y_M[0]), (size[0] - 2) / (Z_M[1] - Z_M[0]))
    u = ((points[:, 1] - Y_M[0]) * scale_px).round().astype(int)
    v = (size[0] - 2 - (points[:, 2] - Z_M[0]) * scale_px).round().astype(int)
    colours = 255 * colormaps["viridis"](np.clip((points[:, 0] - X_M[0]) / (X_M[1] - X_M[0]), 0, 1))[:, :3]
    inside = (u >= 0) & (u < size[1] - 1) & (v >= 0) & (v < size[0] - 1)
    for below, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        image[v[inside] + below, u[inside] + right] = colours[inside]
    return image


def sheet(pictures: np.ndarray, tasks: Sequence[str], shifts: Sequence[str]) -> Image.Image:
    """Pictures (tasks, shifts, H, W, 3) as one image: a column for each task, a row for each shift."""
    height, width = pictures.shape[2:4]
    canvas = Image.new(
        "RGB", (len(tasks) * (width + 2), LABEL_PX + len(shifts) * (height + LABEL_PX)), "white"
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for column, task in enumerate(tasks):
        pen.text((column * (width + 2) + 3, 0), task, "black", font)
        for row, shift in enumerate(shifts):
            at = (column * (width + 2), LABEL_PX + row * (height + LABEL_PX))
            if column == 0:
                pen.text((3, at[1]), shift, "black", font)
            canvas.paste(Image.fromarray(pictures[column, row]), (at[0], at[1] + LABEL_PX))
    return canvas


if __name__ == "__main__":
    main()
