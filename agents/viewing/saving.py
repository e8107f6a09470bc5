"""Saves a view as one file: HTML that a browser opens from the disk without a network, or a PNG."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import viser
from PIL import Image

from simreal_agents.viewing.browser import FIELD_OF_VIEW_RAD, LOOK_AT_IN_BASE_M, LOOK_FROM_IN_BASE_M
from simreal_agents.viewing.meshes import visual_geoms
from simreal_datasets.store.files import write_durably
from simreal_envs.cameras import Camera
from simreal_envs.errors import UsageError
from simreal_envs.poses import pose
from simreal_envs.sim.parts import without
from simreal_envs.sim.renderer import Renderer
from simreal_envs.spec import CONTROL_HZ

SUFFIXES = (".html", ".png")
PNG_SIZE = (720, 1080)
"""(height, width) in pixels."""

_CAPTION = """<div style="position:fixed;left:50%;top:1em;transform:translateX(-50%);z-index:5;
padding:.4em .8em;border-radius:.4em;background:rgba(255,255,255,.85);
font:14px system-ui,sans-serif;color:#222">{text}</div>"""


def check_suffix(path: Path) -> str:
    """The file's suffix; a UsageError if it is none of ours."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--save is {path}; the file must end in {' or '.join(SUFFIXES)}.")
    return path.suffix


def save_html(server: viser.ViserServer, moments: Iterator[None], path: Path, title: str) -> None:
    """Write the scene as it is, and how it moves while ``moments`` pass, one a control step."""
    recording = server.get_scene_serializer()
    for _ in moments:
        recording.insert_sleep(1 / CONTROL_HZ)
    text = html.escape(title)
    page = recording.as_html()
    head, found, rest = page.partition("<body>")
    assert found, "viser's page has a body"
    head = head.replace("<title>Viser</title>", f"<title>{text}</title>")
    page = f"{head}{found}{_CAPTION.format(text=text)}{rest}"
    write_durably(path.parent, path.name, page.encode(), f".{path.name}.aside")


def save_png(scene: tuple[mujoco.MjModel, mujoco.MjData], path: Path) -> None:
    """Write a picture of the scene, seen from where the viewer begins."""
    model, data = scene
    hidden = np.ones(model.ngeom, bool)
    hidden[visual_geoms(model)] = False
    renderer = Renderer(without(model, hidden), _viewer_camera(), (), "full")
    image, _ = renderer.render(data)
    renderer.close()
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "PNG")
    write_durably(path.parent, path.name, packed.getvalue(), f".{path.name}.aside")


def _viewer_camera() -> Camera:
    height, width = PNG_SIZE
    focal_px = height / 2 / np.tan(FIELD_OF_VIEW_RAD / 2)
    intrinsics = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    ahead = np.asarray(LOOK_AT_IN_BASE_M) - LOOK_FROM_IN_BASE_M
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    return Camera(PNG_SIZE, intrinsics, pose(rotation, LOOK_FROM_IN_BASE_M))
