"""The program as a user meets it: help, one clear line for every mistake, Ctrl-C, and going on afterwards."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from demonstrations import write_dataset
from typer.testing import CliRunner

from simreal_agents.evaluation.episode_log import LOG_NAME
from simreal_cli.main import Program, app
from simreal_envs.tasks import TASKS

SIMREAL = str(Path(sys.executable).with_name("simreal"))
COMMANDS = ("collect", "generate", "train", "eval", "replay", "view", "rig", "demo", "doctor")
DATA_COMMANDS = ("fetch", "import", "info", "check", "merge", "drop")
CALIBRATE_COMMANDS = ("board", "held", "fixed", "check")


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real program."""
    return subprocess.run(
        [SIMREAL, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "TERM": "dumb"} | environment,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def invoke(*arguments: object):
    """Run the program in this process, for cases where nothing is started."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.alone
def test_help_comes_fast_and_imports_nothing_heavy():
    start = time.perf_counter()
    helped = run("--help")
    assert helped.returncode == 0
    assert time.perf_counter() - start < 3.0  # 0.4 s on an idle machine
    assert all(command in helped.stdout for command in (*COMMANDS, "data", "calibrate"))
    code = "import simreal_cli.main, sys; print(*{'torch', 'robosuite', 'scipy'} & set(sys.modules))"
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.stdout.split() == []


@pytest.mark.parametrize(
    "command",
    [
        *((c,) for c in COMMANDS),
        *(("data", c) for c in DATA_COMMANDS),
        *(("calibrate", c) for c in CALIBRATE_COMMANDS),
    ],
)
def test_every_command_has_examples_that_name_it(command):
    text = invoke(*command, "--help").output
    assert "Examples" in text
    assert len(re.findall(rf"simreal {' '.join(command)}", text)) >= 2


def test_version():
    assert invoke("--version").output.startswith("simreal 0.")


TASK_LIST = ", ".join(TASKS.built_in)
EXPERT = ("eval", "expert", "--task", "Lift", "--episodes", "2", "--region", "in", "--workers", "1")
BAD = [
    (("eval", "expert", "--task", "Lyft"), 2, f"Unknown task 'Lyft'. Valid: {TASK_LIST}."),
    (("eval", "expert"), 2, "give --task"),
    ((*EXPERT, "--env", "moon"), 2, "Unknown env 'moon'. Valid: sim, rig, real."),
    ((*EXPERT, "--shift", "fog"), 2, "Unknown shift 'fog'. Valid: "),
    ((*EXPERT, "--region", "in,,ood"), 2, "Unknown region ''. Valid: in, ood, all."),
    ((*EXPERT, "--region", "inside"), 2, "Unknown region 'inside'. Valid: in, ood, all."),
    ((*EXPERT, "--workers", "many"), 2, "--workers is 'many'"),
    ((*EXPERT, "--seed", "5"), 2, "--seed is 5; valid are test, selection, or a number"),
    ((*EXPERT, "--seed", "1999999"), 2, "2 seeds from 1999999 on leave the range selection"),
    ((*EXPERT, "--env", "rig", "--video", "1"), 2, "--video plays episodes once more, which env 'rig'"),
    ((*EXPERT, "--checkpoint", "55"), 2, "--checkpoint 55 is of a trained policy"),
    ((*EXPERT, "--output", "/dev/null"), 1, "File exists: /dev/null"),
    ((*EXPERT, "--output", "/proc/nope"), 1, "No such file or directory: /proc/nope"),
    (("eval", "no/such/run"), 2, "Unknown actor 'no/such/run'. Valid: expert,"),
    (("doctor", "--env", "moon"), 2, "Unknown env 'moon'. Valid: sim, rig, real."),
    (("collect", "data", "--task", "Lyft"), 2, f"Unknown task 'Lyft'. Valid: {TASK_LIST}."),
    (("collect", "data", "--task", "Lift", "--obs", "smell"), 2, "Unknown observation 'smell'. Valid: state"),
    (
        ("collect", "data", "--task", "Lift", "--by", "magic"),
        2,
        "Unknown actor 'magic'. Valid: expert, keyboard, spacemouse",
    ),
    (("collect", "data", "--task", "Lift", "--shift", "fog"), 2, "Unknown shift 'fog'. Valid: "),
    (("collect", "data", "--task", "Lift", "--workers", "-3"), 2, "--workers is '-3'"),
    (("collect", "data", "--task", "Lift", "--seed", "1000000"), 2, "Seed 1000000 must be from 0 to 999999"),
    (
        ("collect", "data", "--task", "Lift", "--env", "rig", "--shift", "gains"),
        2,
        "goes with env 'sim' only",
    ),
    ((*EXPERT, "--env", "rig", "--shift", "gains+light"), 2, "goes with env 'sim' only"),
    (("generate", "no/data", "data"), 1, "no/data"),
    (("generate", "some/data", "some/../some/data"), 2, "some/../some/data holds the demonstrations"),
    ((*EXPERT, "--shift", "none+light"), 2, "Shift 'none' stands alone"),
    (("generate", "no/data", "data", "--workers", "0"), 2, "--workers is '0'"),
    (("train", "run", "--method", "magic"), 2, "Unknown method 'magic'. Valid: source, target, cotrain"),
    (
        ("train", "run", "--updates", "5", "--set", "optim.updates=6"),
        2,
        "optim.updates is given by an option, as 5",
    ),
    (("train", "run", "--set", "optim.speed=3"), 2, "Unknown config key 'optim.speed'. Valid: "),
    (("train", "run", "--set", "alignment.tau=[1"), 2, "alignment.tau = '[1' is not YAML"),
    (("train", "run", "--set", "alignment.kind=mmd"), 2, "mmd is what method 'mmd' does"),
    (("train", "run", "--seed", str(2**63)), 2, "must be below 2**63"),
    (("train", "run"), 2, "needs a source dataset: give --source"),
    (("eval", "expert", "--task", "Lift", "--set", "head.steps=2"), 2, "the expert has no settings"),
    (("train", "run", "--preset", "no.yaml"), 2, "There is no preset file no.yaml"),
    (("train", "run", "--resume", "--preset", "paper-image"), 2, "leave out preset=paper-image"),
    (("calibrate", "board", "board.jpg"), 2, "'board.jpg' does not end in .png"),
    (("train", "run", "--seed", "-1"), 2, "seed = -1 must not be negative."),
    (("train", "run", "--checkpoint-every", "0"), 2, "checkpoint_every = 0 must be at least 1."),
    (("train", "run", "--source", "no/data", "--target", "no/data"), 1, "no/data"),
    (
        ("data", "import", "Lyft", "data"),
        1,
        "file Lyft does not exist. By name there are: Lift, Square, Stack.",
    ),
    (("data", "info", "no/data"), 1, "no/data"),
    (("data", "drop", "no/data", "1"), 1, "no/data"),
    (("data", "check", "no/data"), 1, "no/data"),
    (("data", "merge", "new", "no/data"), 1, "Cannot merge no/data: No such file"),
    (("data", "fetch", "Lyft"), 2, "Unknown human demonstration 'Lyft'. Valid: Lift, Square, Stack"),
    (("rig", "--inject", "reflex"), 2, "--inject reflex needs the address of a running rig"),
    (("rig", "--host", "127.0.0.2", "--inject", "fire"), 2, "Unknown fault 'fire'. Valid: none, reflex"),
    (("rig", "--host", "127.9.9.9", "--inject", "reflex"), 1, "No virtual rig at 127.9.9.9"),
    (("demo", "--task", "Lyft"), 2, f"Unknown task 'Lyft'. Valid: {TASK_LIST}."),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: None)
def test_a_mistake_is_one_line_on_stderr(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("fly",), ("eval", "--fast"), ("eval",), (*EXPERT, "--episodes", "0")])
def test_unknown_commands_and_options_are_usage_errors(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.output


def test_the_real_program_prints_one_line_and_with_debug_the_traceback():
    plain = run("eval", "expert", "--task", "[red]Lyft[/]")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr == f"error: Unknown task '[red]Lyft[/]'. Valid: {TASK_LIST}.\n"
    debug = run("--debug", "eval", "expert", "--task", "Lyft")
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "UsageError: Unknown task 'Lyft'" in debug.stderr


NO_OPENGL = {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
"""Environment in which the OpenGL libraries find no driver."""


def test_rendering_without_opengl_names_the_packages_to_install(tmp_path):
    result = run("collect", tmp_path / "data", "--task", "Lift", "--episodes", 1, "--workers", 1, **NO_OPENGL)
    assert result.returncode == 1
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith("error: No OpenGL for rendering")
    assert "apt-get install libegl1" in error


NO_LIBRARIES = """
import ctypes.util
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in ("EGL", "GL", "GLESv2", "OpenGL") else find(name)
load = ctypes.CDLL.__init__
def refuse(self, name, *rest, **options):
    if any(part in str(name) for part in ("EGL", "libGL")):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    load(self, name, *rest, **options)
ctypes.CDLL.__init__ = refuse
"""
"""Run at the start of Python: no OpenGL library is there at all, so MuJoCo cannot even be imported."""


@pytest.mark.parametrize("arguments", [("data", "import", "Lift", "d"), ("demo", "--quick")])
def test_without_opengl_libraries_every_entry_names_the_packages_to_install(arguments, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_LIBRARIES)
    result = run(*arguments, cwd=tmp_path, MUJOCO_GL="egl", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: No OpenGL for rendering (")
    assert "apt-get install libegl1" in result.stderr


def test_a_full_disk_is_one_line():
    program = typer.Typer(cls=Program)

    @program.command()
    def write() -> None:
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)

    @program.command()
    def other() -> None: ...

    result = CliRunner().invoke(program, ["write"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: disk full")
    assert result.stderr.count("\n") == 1


def _lines(folder: Path) -> list[str]:
    log = folder / LOG_NAME
    return sorted(log.read_text().splitlines()) if log.exists() else []


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path):
    def command(folder: str, workers: int) -> list[object]:
        options = ["--episodes", 12, "--region", "in", "--workers", workers, "--output", tmp_path / folder]
        return ["eval", "expert", "--task", "Lift", *options]

    whole = run(*command("whole", 1))
    assert whole.returncode == 0, whole.stderr
    assert "12 episodes: expert; regions in; 12 in each" in whole.stdout
    assert "12/12 = 100 %" in whole.stdout

    started = subprocess.Popen(
        [SIMREAL, *map(str, command("parts", 2))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(_lines(tmp_path / "parts")) < 3 and started.poll() is None:
        assert time.monotonic() < deadline, "no episode was finished"
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the program and its workers
    sent = time.monotonic()
    output, errors = started.communicate(timeout=30)
    assert started.returncode == 130, errors
    assert time.monotonic() - sent < 10
    assert "error: interrupted; what was finished is kept" in errors
    assert "Traceback" not in output + errors
    done = _lines(tmp_path / "parts")
    assert 3 <= len(done) < 12
    assert all(json.loads(line) for line in done)

    resumed = run(*command("parts", 2))
    assert resumed.returncode == 0, resumed.stderr
    assert _lines(tmp_path / "parts") == _lines(tmp_path / "whole")
    assert resumed.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]


def test_eval_writes_its_files_and_videos_of_failures(tmp_path):
    result = run(*EXPERT, "--output", tmp_path, "--video", 1, "--max-steps", 5)
    assert result.returncode == 0, result.stderr
    written = {path.name for path in tmp_path.iterdir()}
    assert {LOG_NAME, "episodes.csv", "summary.json", "summary.csv", "report.md"} <= written
    (video,) = (tmp_path / "videos").iterdir()
    assert video.suffix == ".mp4"
    assert video.stat().st_size > 1000


@pytest.mark.slow
def test_doctor_renders_and_tells_how_to_mend_what_fails(tmp_path):
    healthy = run("doctor", SIMREAL_CACHE=str(tmp_path), MUJOCO_GL="egl")
    assert healthy.returncode == 0, healthy.stdout
    assert re.search(r"ok +OpenGL egl \(in use\) renders", healthy.stdout)
    assert re.search(r"warn human demonstrations not fetched.*\n +-> simreal data fetch", healthy.stdout)
    for subject in ("Python", "torch", "mujoco", "CPU cores", "memory", "free disk", "device", "cache"):
        assert subject in healthy.stdout

    blind = run("doctor", **NO_OPENGL)
    assert blind.returncode == 1
    assert re.search(
        r"fail OpenGL egl \(in use\) does not render.*\n +-> .*apt-get install libegl1", blind.stdout
    )

    unset = run("doctor", MUJOCO_GL="vulkan")
    assert unset.returncode == 1
    assert re.search(
        r"fail OpenGL MUJOCO_GL=vulkan is none of egl, osmesa, glfw\n +-> unset MUJOCO_GL", unset.stdout
    )


def test_a_dataset_of_damaged_episodes_can_be_mended(tmp_path):
    write_dataset(tmp_path / "d", 1)
    (episode,) = (tmp_path / "d").glob("episode_*.hdf5")
    episode.write_bytes(b"damaged")
    result = CliRunner().invoke(app, ["data", "drop", str(tmp_path / "d"), "0"])
    assert (result.exit_code, result.stdout) == (0, f"dropped {episode.name}: damaged\n")
