"""Compiles the model library that the rig serves, as a Panda serves its own, and calls it from Python."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simreal_envs.errors import MissingDependencyError
from simreal_envs.folders import cache_dir
from simreal_envs.rig.panda import Inertia
from simreal_envs.spec import FloatArray

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O2", "-shared", "-fPIC", "-std=c99")
GRAVITY_MPS2 = np.array([0.0, 0.0, -9.81])


def find_compiler() -> str | None:
    """Path of a C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(links: Sequence[Inertia]) -> Path:
    """The library of an arm with these seven links, compiled if it is not in the cache.

    Raises:
        MissingDependencyError: there is no C compiler, or none that works.
    """
    numbers = ["{" + ",".join(repr(float(v)) for v in link.numbers()) + "}" for link in links]
    # The structures' nested arrays take a flat list of numbers.
    command = [*_FLAGS, f"-DLINKS={{{','.join(numbers)}}}", "-Wno-missing-braces"]
    digest = hashlib.sha256(_SOURCE.read_bytes() + " ".join(command).encode()).hexdigest()[:16]
    library = cache_dir() / f"panda-model-{digest}.so"
    if library.exists():
        return library
    compiler = find_compiler()
    if compiler is None:
        raise MissingDependencyError(
            "The virtual rig compiles the arm's model library and found no C compiler (cc, gcc or clang): "
            "`sudo apt install gcc`, or `conda install -c conda-forge c-compiler`."
        )
    library.parent.mkdir(parents=True, exist_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}")
    compiled = subprocess.run(
        [compiler, *command, str(_SOURCE), "-lm", "-o", str(unfinished)],
        capture_output=True,
        text=True,
        check=False,
    )
    if compiled.returncode:
        raise MissingDependencyError(
            f"{compiler} could not compile the arm's model library: {compiled.stderr.strip()[:300]} "
            "A whole compiler is installed by `sudo apt install build-essential`."
        )
    unfinished.rename(library)
    return library


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class ModelLibrary:
    """The compiled functions over arrays that are allocated once; the next call overwrites a result.

    Args:
        path: of the compiled library.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self.q, self.dq = np.zeros(7), np.zeros(7)
        self.mass_kg = 0.0
        self.centre_m, self.inertia_kgm2 = np.zeros(3), np.zeros((3, 3))
        self.flange_to_end = np.eye(4, order="F")
        self._tau, self._mass = np.zeros(7), np.zeros((7, 7), order="F")
        self._jacobian, self._pose = np.zeros((6, 7), order="F"), np.zeros((4, 4), order="F")
        self._gravity = GRAVITY_MPS2.copy()
        names = ("q", "dq", "centre_m", "inertia_kgm2", "flange_to_end")
        self._at = {name: _pointer(getattr(self, name)) for name in names}
        self._out = {
            n: _pointer(getattr(self, f"_{n}")) for n in ("tau", "mass", "jacobian", "pose", "gravity")
        }

    def set_payload(self, payload: Inertia) -> None:
        """Mass, centre (3,) and inertia (3, 3) about it of what is fixed to the flange, in its frame."""
        self.mass_kg = payload.mass_kg
        self.centre_m[:] = payload.centre_m
        self.inertia_kgm2[:] = payload.inertia_kgm2

    def gravity(self) -> FloatArray:
        """Torques (7,) in N m that hold the arm at ``q``."""
        at, out = self._at, self._out
        mass = ctypes.c_double(self.mass_kg)
        self._library.g_NE(at["q"], out["gravity"], mass, at["centre_m"], out["tau"])
        return self._tau

    def coriolis(self) -> FloatArray:
        """Torques (7,) in N m of the velocities ``dq`` at ``q``."""
        at, mass = self._at, ctypes.c_double(self.mass_kg)
        self._library.c_NE(at["q"], at["dq"], at["inertia_kgm2"], mass, at["centre_m"], self._out["tau"])
        return self._tau

    def mass_matrix(self) -> FloatArray:
        """(7, 7) kg m^2 at ``q``."""
        at, mass = self._at, ctypes.c_double(self.mass_kg)
        self._library.M_NE(at["q"], at["inertia_kgm2"], mass, at["centre_m"], self._out["mass"])
        return self._mass

    def end_pose(self) -> FloatArray:
        """(4, 4) of the end effector in the base frame at ``q``."""
        self._library.O_T_J9(self._at["q"], self._at["flange_to_end"], self._out["pose"])
        return self._pose

    def end_jacobian(self) -> FloatArray:
        """(6, 7) of the end effector, linear above angular velocity, base frame."""
        self._library.O_J_J9(self._at["q"], self._at["flange_to_end"], self._out["jacobian"])
        return self._jacobian
