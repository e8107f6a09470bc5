"""The OpenGL context of simreal beside others', in threads, forked processes, and at a program's end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import simreal_envs  # noqa: F401
from simreal_envs.errors import UsageError
from simreal_envs.sim.context import opengl

Look = Callable[[], np.ndarray]
TARGET = np.array([0.5, 0.1, 0.2, np.pi, 0.0, 0.0, -1.0], np.float32)
BALL = "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3'/></worldbody></mujoco>"

# --- beside others ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def robosuite_env() -> Iterator[Any]:
    import robosuite

    env = robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=False,
        hard_reset=False,  # which would leave a context to be freed at any time, in the new one
    )
    env.reset()
    yield env
    env.close()


@pytest.fixture
def robosuite_look(robosuite_env: Any) -> Look:
    """The picture of robosuite's own environment, whose context is current."""
    gc.collect()  # a context of robosuite or MuJoCo that is freed takes the current one away
    robosuite_env.sim._render_context_offscreen.gl_ctx.make_current()
    return lambda: np.array(robosuite_env.sim.render(width=64, height=64, camera_name="agentview"))


def test_others_draw_as_before_whatever_ours_did(robosuite_look: Look) -> None:
    before = robosuite_look()
    assert before.std() > 10
    env = gym.make("simreal/Lift-v0", render_mode="rgb_array")
    uses: list[Callable[[], Any]] = [
        lambda: env.reset(seed=0),
        lambda: env.step(TARGET),
        env.render,
        env.close,
    ]
    for use in uses:
        use()
        np.testing.assert_array_equal(robosuite_look(), before)


def test_others_draw_as_before_once_one_of_ours_was_lost(robosuite_look: Look) -> None:
    kept, lost = (gym.make("simreal/Lift-v0") for _ in range(2))
    lost.reset(seed=0)
    observation, before = kept.reset(seed=0)[0], robosuite_look()
    del lost
    gc.collect()
    np.testing.assert_array_equal(robosuite_look(), before)
    world: Any = kept.unwrapped
    np.testing.assert_array_equal(world.observe()["agentview_image"], observation["agentview_image"])
    kept.close()


def test_ours_draw_as_before_whatever_others_did(robosuite_look: Look) -> None:
    env = gym.make("simreal/Lift-v0", obs="image+depth")
    world: Any = env.unwrapped
    before = env.reset(seed=0)[0]
    robosuite_look()
    after_robosuite = world.observe()
    model = mujoco.MjModel.from_xml_string(BALL)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 48, 64) as theirs:
        theirs.update_scene(data)
        picture = theirs.render()
        after_mujoco = world.observe()
        np.testing.assert_array_equal(theirs.render(), picture)
    for seen in (after_robosuite, after_mujoco, world.observe()):
        for key in ("agentview_image", "agentview_depth"):
            np.testing.assert_array_equal(seen[key], before[key])
    assert picture.std() > 10
    env.close()


def test_threads_draw_side_by_side() -> None:
    envs = [gym.make("simreal/Lift-v0") for _ in range(2)]
    expected = [env.reset(seed=seed)[0]["agentview_image"] for seed, env in enumerate(envs)]
    wrong: list[Any] = []

    def watch(index: int) -> None:
        world: Any = envs[index].unwrapped
        try:
            for _ in range(30):
                np.testing.assert_array_equal(world.observe()["agentview_image"], expected[index])
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=watch, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for env in envs:
        env.close()


def test_nothing_of_others_is_freed_in_our_context() -> None:
    freed = []

    class Theirs:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            freed.append(True)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with opengl():
            Theirs()
            assert [[[]] for _ in range(10_000)]
            assert not freed
        assert [[[]] for _ in range(10_000)]
        assert freed
    finally:
        gc.set_threshold(*before)


# --- in other processes -----------------------------------------------------------------------------


def run_here(function: str, timeout_s: float = 240.0) -> str:
    """Run a function of this file in a process of its own; returns its stderr."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-W",
            "ignore",
            "-c",
            f"import test_opengl; test_opengl.{function}()",
        ],
        cwd="tests",
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"{function} hangs")
    assert process.returncode == 0, errors
    return errors


def end_without_closing() -> None:
    import atexit
    import logging

    logging.disable()  # robosuite's advice at import
    import robosuite

    kept = []
    atexit.register(kept.clear)  # before any context is opened, so that it runs after all were closed
    for _ in range(2):
        env = gym.make("simreal/Lift-v0", render_mode="rgb_array")
        env.reset(seed=0)
        env.render()
        kept.append(env)
    theirs = robosuite.make("Lift", robots="Panda", has_renderer=False, use_camera_obs=True)
    theirs.reset()
    global _never_closed
    _never_closed = kept.pop(), theirs


_never_closed: Any = None


@pytest.mark.slow
def test_a_program_may_end_without_closing_anything() -> None:
    assert run_here("end_without_closing") == ""


class Looks:
    """A data set for torch whose items are images, of an environment made where they are asked for."""

    def __init__(self, env: Any = None) -> None:
        self.env = env

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> np.ndarray:
        env = self.env or gym.make("simreal/Lift-v0")
        image = env.reset(seed=index)[0]["agentview_image"]
        del env
        self.env = None
        gc.collect()
        return image


def forked_images(kind: str, env: Any = None) -> np.ndarray:
    """Images (2, H, W, 3) of the seeds 0 and 1, from forked processes."""
    if kind == "gymnasium":
        envs = gym.make_vec("simreal/Lift-v0", 2, vectorization_mode="async")
        try:
            return envs.reset(seed=0)[0]["agentview_image"]
        finally:
            envs.close(terminate=True)
    from torch.utils.data import DataLoader

    loader = DataLoader(Looks(env), batch_size=None, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
    return np.stack([np.asarray(image) for image in loader])


def fork_first() -> None:
    made = gym.make("simreal/Lift-v0")  # and not looked at
    forked = [forked_images("gymnasium"), forked_images("torch", made)]
    images = np.stack([made.reset(seed=seed)[0]["agentview_image"] for seed in range(2)])
    for other in forked:
        np.testing.assert_array_equal(images, other)


def fork_late() -> None:
    renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string(BALL))
    with pytest.raises(UsageError, match="spawn"):
        forked_images("torch")
    renderer.close()
    env = gym.make("simreal/Lift-v0")
    env.reset(seed=0)
    for kind in ("gymnasium", "torch"):
        with pytest.raises(UsageError, match="spawn"):
            forked_images(kind, env)
    env.reset(seed=0)  # this process goes on


@pytest.mark.slow
@pytest.mark.parametrize("order", ["fork_first", "fork_late"])
def test_a_forked_process_draws_or_says_why_not(order: str) -> None:
    run_here(order)


@pytest.mark.parametrize("others_first", [True, False])
def test_triton_is_imported_before_mesas_llvm_or_not_at_all(tmp_path: Path, others_first: bool) -> None:
    """After it, the real one would crash the process; this one of the same name says that it is imported."""
    (tmp_path / "triton.py").write_text("print('imported')")
    theirs = (
        "renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'));" if others_first else ""
    )
    code = (
        f"import mujoco, simreal_envs; {theirs}"
        "mesa = '/libLLVM' in open('/proc/self/maps').read();"
        "from simreal_envs.world_config import WorldConfig; env = WorldConfig('Lift').make('in');"
        "env.reset(seed=0); env.close(); print(mesa)"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    *imported, mesa_before_ours = done.stdout.split()
    assert imported == ([] if mesa_before_ours == "True" else ["imported"])
    assert ("torch.compile" in done.stderr) == (mesa_before_ours == "True")


def test_torch_can_be_trained_with_after_rendering() -> None:
    """An optimiser imports torch's compiler, whose LLVM must get along with the renderer's."""
    code = (
        "from simreal_envs.world_config import WorldConfig; WorldConfig('Lift').make('in').reset(seed=0);"
        "import torch; torch.optim.AdamW([torch.zeros(1)]); import torch._dynamo"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
