"""What is installed: our own names only, beside others' packages, and nothing heavy before it is needed."""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from simreal_envs.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "simreal_envs": "simreal_envs",
    "simreal_datasets": "datasets",
    "simreal_agents": "agents",
    "simreal_cli": "cli",
}


def run(*command: object, cwd: Path = ROOT) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, so that nothing left over in the working tree gets in."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", copy / "dist", copy, cwd=copy)
    (built,) = (copy / "dist").glob("simreal-*.whl")
    return built


def test_wheel_holds_every_module_under_our_names_only(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(FOLDERS)
    for package, folder in FOLDERS.items():
        kept = [
            path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".typed", ".c")
        ]
        missing = {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in kept} - names
        assert missing == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_wheel_leaves_hugging_face_datasets_alone(wheel, tmp_path):
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile")
    run(*install, "datasets", cwd=tmp_path)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    before = _digests(packages / "datasets")
    run(*install, "--no-deps", wheel, cwd=tmp_path)
    assert _digests(packages / "datasets") == before
    code = (
        "import datasets, simreal_datasets; print(datasets.__file__, simreal_datasets.__file__);"
        "print(len(datasets.Dataset.from_dict({'x': [1, 2, 3]})))"
    )
    assert run(python, "-c", code, cwd=tmp_path).split() == [
        str(packages / "datasets" / "__init__.py"), str(packages / "simreal_datasets" / "__init__.py"), "3",
    ]  # fmt: skip


@pytest.mark.alone
def test_importing_the_environments_registers_them_and_loads_nothing_heavy(tmp_path):
    code = (
        "import time; start = time.perf_counter(); import simreal_envs; took = time.perf_counter() - start;"
        "import gymnasium, sys;"
        "print(*sorted(name for name in gymnasium.registry if name.startswith('simreal/')));"
        "print(*sorted({'torch', 'robosuite', 'mujoco', 'h5py', 'scipy'} & set(sys.modules)));"
        "print(took)"
    )
    registered, heavy, took = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
    assert registered.split() == [f"simreal/{task}-v0" for task in sorted(TASKS.built_in)]
    assert heavy == ""
    assert float(took) < 3.0  # 0.2 s on an idle machine


def test_gymnasium_finds_a_task_by_its_module(tmp_path):
    code = "import gymnasium; print(gymnasium.make('simreal_envs:simreal/Stack-v0', obs='state').spec.id)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "simreal/Stack-v0"


def test_imports_go_one_way():
    contracts = run(Path(sys.executable).with_name("lint-imports"), "--no-cache")
    assert "0 broken" in contracts


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("demo",), "simreal demo --task Lift --env sim"),
        (("demo", "QUICK=1"), "simreal demo --task Lift --env sim --quick"),
        (("demo", "TASK=Stack"), "simreal demo --task Stack --env sim"),
        (("demo", "ENV=rig"), "simreal demo --task Lift --env rig"),
    ],
)
def test_make_runs(arguments, command):
    assert dry_run(*arguments)[-1].endswith(command)


def test_make_test_leaves_no_test_out():
    marks = [line.partition(" -m ")[2] for line in dry_run("test") if ".venv/bin/pytest" in line]
    assert [mark.split(" ||")[0] for mark in marks] == ["'not alone'", "alone"]


def dry_run(*arguments):
    """The command lines of ``make``, which may itself be what runs the tests."""
    fresh = ("env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "ARGS", "ENV=.shrc")
    output = run(*fresh, "make", "--no-print-directory", "--dry-run", *arguments)
    return [" ".join(line.split()) for line in output.splitlines()]


def test_continuous_integration_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    run("bash", "-n", script)
    assert script.read_text().splitlines()[-1] == "make --keep-going test"
