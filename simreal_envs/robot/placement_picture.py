"""Where the operator shall put each object, drawn into what the camera sees."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from simreal_envs.cameras import Camera
from simreal_envs.spec import TABLE_CENTRE_IN_BASE_M
from simreal_envs.tasks.placement import table_places
from simreal_envs.tasks.starts import Placement

HALF_SIDE_M = 0.025
"""Of the square that stands for an object."""


def draw_placement(image: np.ndarray, camera: Camera, placement: Placement) -> np.ndarray:
    """The image (H, W, 3) with a square for each object on the table, the arrow along its x axis."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for name, (x, y, yaw) in table_places(placement).items():
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        corners = HALF_SIDE_M * np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
        arrow = HALF_SIDE_M * np.array([[0.0, 0.0], [2.0, 0.0]])
        on_table = np.concatenate([corners, arrow]) @ turn.T + TABLE_CENTRE_IN_BASE_M[:2] + (x, y)
        pixels = camera.project(np.column_stack([on_table, np.zeros(6)]))
        square, line = [tuple(p) for p in pixels[:4]], [tuple(p) for p in pixels[4:]]
        draw.polygon(square, outline=(255, 0, 255), width=2)
        draw.line(line, fill=(255, 0, 255), width=2)
        draw.text(line[1], name, fill=(255, 0, 255))
    return np.asarray(picture)
