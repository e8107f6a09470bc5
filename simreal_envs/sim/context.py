"""The process's one OpenGL context: current while something is drawn with it, and at no other time."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from simreal_envs.cleanup import finally_do
from simreal_envs.errors import MissingDependencyError, UsageError
from simreal_envs.opengl import NO_OPENGL, load_other_llvm_first
from simreal_envs.sim import mujoco

Restore = Callable[[], Any]

_lock = threading.RLock()
"""A context can be current in one thread only."""
_context: Any = None
_opened_before_fork = False


@contextmanager
def opengl() -> Iterator[None]:
    """Make our context current, and afterwards whichever was current before.

    robosuite makes its context current once, and from then on draws into whichever is current.

    Raises:
        MissingDependencyError: there is no OpenGL.
        UsageError: OpenGL was opened before this process was forked.
    """
    if _opened_before_fork:
        raise UsageError(
            "No images in a process that was forked after OpenGL was opened, which does not survive a fork. "
            'Start processes by "spawn": gym.make_vec(..., vector_kwargs={"context": "spawn"}), '
            'DataLoader(..., multiprocessing_context="spawn"), multiprocessing.get_context("spawn").'
        )
    with _lock, _no_garbage_collection():
        try:
            # MuJoCo itself chooses when first imported, which may have been before us and without a display.
            name = os.environ.get("MUJOCO_GL") or mujoco.GLContext.__module__.rpartition(".")[2]
            backend = import_module(f"mujoco.{name}")
            restore = _RESTORE[name](backend)
        except Exception as error:  # each backend raises its own kinds
            raise _no_opengl(error) from error
        with finally_do(restore):
            _make_current(backend)
            yield


def may_free() -> bool:
    """Whether OpenGL's objects can still be freed.

    A forked process cannot, and at the program's end others may have closed the display already.
    """
    return not _opened_before_fork and threading.main_thread().is_alive()


def _make_current(backend: Any) -> None:
    global _context
    try:
        if _context is None:
            load_other_llvm_first()
            # The context is freed when the process ends; MuJoCo's `free` fails if the display is closed.
            kept = type("KeptContext", (backend.GLContext,), {"__del__": lambda self: None})
            _context = kept(64, 64)
        _context.make_current()
    except Exception as error:
        raise _no_opengl(error) from error


def _no_opengl(error: Exception) -> MissingDependencyError:
    return MissingDependencyError(NO_OPENGL.format(reason=f"{type(error).__name__}: {error}"))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Stop garbage collection: objects of other libraries would free textures, by number, in our context."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _restore_egl(backend: Any) -> Restore:
    egl = backend.EGL
    if context := egl.eglGetCurrentContext():
        surfaces = egl.eglGetCurrentSurface(egl.EGL_DRAW), egl.eglGetCurrentSurface(egl.EGL_READ)
        return partial(egl.eglMakeCurrent, egl.eglGetCurrentDisplay(), *surfaces, context)
    none = egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT
    # Without our context there is nothing to undo, and without OpenGL EGL_DISPLAY is not a display.
    return lambda: _context is not None and egl.eglMakeCurrent(backend.EGL_DISPLAY, *none)


def _restore_osmesa(backend: Any) -> Restore:
    osmesa, of_type = backend.osmesa, backend.GL.GL_FLOAT
    if context := osmesa.OSMesaGetCurrentContext():
        width, height, _, buffer = osmesa.OSMesaGetColorBuffer(context)
        of_type = osmesa.OSMesaGetIntegerv(osmesa.OSMESA_TYPE)
        return partial(osmesa.OSMesaMakeCurrent, context, buffer, of_type, width, height)
    return partial(osmesa.OSMesaMakeCurrent, None, None, of_type, 0, 0)


def _restore_glfw(backend: Any) -> Restore:
    glfw = backend.glfw
    glfw.init()
    return partial(glfw.make_context_current, glfw.get_current_context())


_RESTORE: dict[str, Callable[[Any], Restore]] = {
    "egl": _restore_egl,
    "osmesa": _restore_osmesa,
    "glfw": _restore_glfw,
}


def _display_is_open() -> bool:
    """Whether anyone in this process has opened OpenGL: simreal, MuJoCo's or robosuite's own renderer."""
    modules = ("mujoco.egl", "robosuite.renderers.context.egl_context")
    opened = (getattr(sys.modules.get(name), "EGL_DISPLAY", None) for name in modules)
    return _context is not None or any(display is not None for display in opened)


def _after_fork() -> None:
    global _lock, _opened_before_fork
    _lock = threading.RLock()  # another thread of the parent may have held it
    _opened_before_fork = _opened_before_fork or _display_is_open()


os.register_at_fork(after_in_child=_after_fork)
