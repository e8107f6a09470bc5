"""``simreal doctor``: is everything here that simreal needs, and what to do if not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from simreal_cli.doctor_robot import examine_robot
from simreal_cli.finding import Finding, Status
from simreal_cli.options import Host, Serial
from simreal_envs.opengl import choose_backend
from simreal_envs.spec import ENVS, check_choice

MIN_CORES, MIN_MEMORY_GB, MIN_DISK_GB = 2, 4, 6
BACKENDS = {
    "egl": "apt-get install libegl1 libgl1 libgles2",
    "osmesa": "apt-get install libosmesa6",
    "glfw": "needs a display: apt-get install libglfw3 libgl1",
}
"""MuJoCo's OpenGL backends, and what each needs on Debian or Ubuntu."""

RENDER_TIMEOUT_S = 60
_RENDER = """
import mujoco
ball = '<light pos="0 0 2"/><geom type="sphere" size=".5" rgba="1 0 0 1"/>'
model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{ball}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
assert renderer.render()[32, 32, 0] > 0, "the picture is black"
"""

_COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    env: Annotated[str, typer.Option(help="World to check the machine for: sim, rig or real.")] = "sim",
    host: Host = None,
    serial: Serial = None,
) -> None:
    """Check this machine: versions, memory, disk, OpenGL, device, cache; with --env also robot and camera.

    The exit code is 1 if something that is needed fails.

    **Examples**

    `simreal doctor`

    `simreal doctor --env real --host 172.16.0.2`

    `MUJOCO_GL=osmesa simreal doctor --env rig`
    """
    check_choice("env", env, ENVS)
    console = Console()
    failed = False
    for finding in chain(examine(), examine_robot(env, host, serial) if env != "sim" else ()):
        failed |= finding.status == "fail"
        console.print(
            f"[{_COLOURS[finding.status]}]{finding.status:4}[/] [bold]{escape(finding.subject)}[/] "
            f"{escape(finding.found)}" + (f"\n     -> {escape(finding.remedy)}" if finding.remedy else ""),
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if failed:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Look at everything, one after another."""
    yield from _versions()
    yield from _machine()
    yield from _opengl()
    yield _torch()
    yield from _cache()


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    about = metadata.metadata("simreal")
    python = ".".join(map(str, sys.version_info[:3]))
    supported = SpecifierSet(about["Requires-Python"])
    if python in supported:
        yield Finding("ok", "Python", python)
    else:
        yield Finding("fail", "Python", python, f"install a Python that is {supported}")
    for requirement in map(Requirement, metadata.requires("simreal") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        install = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding("fail", requirement.name, "is not installed", install)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            yield Finding("ok", requirement.name, version)
        else:
            yield Finding("fail", requirement.name, f"{version} is not {requirement.specifier}", install)


def _machine() -> Iterator[Finding]:
    from simreal_envs.parallel import available_cores

    cores = available_cores()
    yield _at_least("CPU cores", cores, MIN_CORES, "", "everything runs, but slowly")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield _at_least("memory", memory_gb, MIN_MEMORY_GB, " GB", "use fewer --workers")
    disk_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    yield _at_least("free disk here", disk_gb, MIN_DISK_GB, " GB", "packages and a demo need this much")


def _at_least(subject: str, value: float, needed: float, unit: str, remedy: str) -> Finding:
    if value >= needed:
        return Finding("ok", subject, f"{value:.0f}{unit}")
    return Finding("warn", subject, f"{value:.1f}{unit}, less than {needed:.0f}{unit}", remedy)


def _opengl() -> Iterator[Finding]:
    """Render one picture with each backend, each in a process of its own as MuJoCo loads only one."""
    wanted = choose_backend()
    faults = {backend: _render_fault(backend) for backend in BACKENDS}
    working = [backend for backend, fault in faults.items() if not fault]
    for backend, fault in faults.items():
        subject = f"OpenGL {backend}" + (" (in use)" if backend == wanted else "")
        if not fault:
            yield Finding("ok", subject, "renders")
        elif backend == wanted and working:
            remedy = f"export MUJOCO_GL={working[0]}, or on Debian or Ubuntu: {BACKENDS[backend]}"
            yield Finding("fail", subject, fault, remedy)
        elif backend == wanted:
            yield Finding("fail", subject, fault, f"on Debian or Ubuntu: {BACKENDS[backend]}")
        else:
            yield Finding("ok", subject, "is not there, and not needed")
    if wanted not in BACKENDS:
        yield Finding(
            "fail", "OpenGL", f"MUJOCO_GL={wanted} is none of {', '.join(BACKENDS)}", "unset MUJOCO_GL"
        )


def _render_fault(backend: str) -> str:
    """Why the backend cannot render; empty if it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RENDER],
            env=os.environ | {"MUJOCO_GL": backend},
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not render within {RENDER_TIMEOUT_S} s"
    lines = [line for line in done.stderr.splitlines() if line and not line[0].isspace()]
    errors = [line for line in lines if "Error" in line] or lines or [f"exit code {done.returncode}"]
    return "" if done.returncode == 0 else f"does not render ({errors[0]})"


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        return Finding("fail", "device", f"torch cannot be imported: {error}", "reinstall torch")

    if torch.cuda.is_available():
        return Finding("ok", "device", f"cuda: {torch.cuda.get_device_name(0)}")
    return Finding("ok", "device", f"cpu with {torch.get_num_threads()} threads; there is no CUDA device")


def _cache() -> Iterator[Finding]:
    from simreal_datasets.making.fetch import cached_demonstration
    from simreal_envs.folders import cache_dir
    from simreal_envs.tasks import tasks_with

    folder = cache_dir()
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(above, os.W_OK):
        yield Finding("ok", "cache", str(folder))
    else:
        yield Finding("fail", "cache", f"{above} is not writable", "set SIMREAL_CACHE to a folder that is")
    missing = [t for t in tasks_with("human_demonstrations") if not cached_demonstration(t).is_file()]
    if missing:
        yield Finding(
            "warn", "human demonstrations", f"not fetched: {', '.join(missing)}", "simreal data fetch"
        )
    else:
        yield Finding("ok", "human demonstrations", "fetched")
