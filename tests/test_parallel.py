"""Work on several processes: everything arrives, errors reach the caller, nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from simreal_envs.errors import SimrealError, UsageError
from simreal_envs.parallel import run_in_processes


class Doubler:
    """Doubles numbers; counts in ``folder`` how often it is made, and what it began and finished."""

    def __init__(self, folder: Path, seconds: float, stack: ExitStack) -> None:
        self.folder, self.seconds = folder, seconds
        (folder / f"made_{os.getpid()}").touch()
        stack.callback((folder / f"closed_{os.getpid()}").touch)

    def __call__(self, item: int, heartbeat) -> int:
        if item == -1:
            raise UsageError("Minus one is not a number we like.")
        if item == -2:
            os._exit(9)
        (self.folder / f"began_{item}").touch()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            heartbeat()
            time.sleep(0.01)
        (self.folder / f"finished_{item}").touch()
        return 2 * item


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_worked_on_once(tmp_path, workers):
    results = run_in_processes(partial(Doubler, tmp_path, 0.0), range(7), workers)
    assert sorted(results) == [0, 2, 4, 6, 8, 10, 12]
    assert 1 <= len(list(tmp_path.glob("made_*"))) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_what_work_needs_is_made_once_a_process_and_closed_at_the_end(tmp_path, workers):
    list(run_in_processes(partial(Doubler, tmp_path, 0.0), range(20), workers))
    made = {file.name.removeprefix("made_") for file in tmp_path.glob("made_*")}
    assert {file.name.removeprefix("closed_") for file in tmp_path.glob("closed_*")} == made


def test_nothing_is_started_for_nothing(tmp_path):
    assert list(run_in_processes(partial(Doubler, tmp_path / "missing", 0.0), [], 4)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_reaches_the_caller(tmp_path, workers):
    with pytest.raises(UsageError, match="Minus one"):
        list(run_in_processes(partial(Doubler, tmp_path, 0.0), [1, -1, 2], workers))


def test_an_error_while_setting_up_reaches_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(run_in_processes(partial(Doubler, tmp_path / "missing", 0.0), [1, 2], 2))


def test_a_process_that_dies_is_an_error_and_not_a_hang(tmp_path):
    with pytest.raises(SimrealError, match="fewer --workers"):
        list(run_in_processes(partial(Doubler, tmp_path, 0.0), [1, -2, 2, 3], 2))


@pytest.mark.alone
def test_leaving_early_stops_work_at_its_heartbeat(tmp_path):
    results = run_in_processes(partial(Doubler, tmp_path, 0.3), range(50), 2)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 2.0
    assert len(list(tmp_path.glob("finished_*"))) < 10


def test_an_interrupt_while_work_is_handed_out_is_not_lost(tmp_path, monkeypatch):
    submit = ProcessPoolExecutor.submit

    def interrupted_while(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return submit(*arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted_while)
    with pytest.raises(KeyboardInterrupt):
        list(run_in_processes(partial(Doubler, tmp_path, 0.0), range(50), 2))


def _megabyte(item: int, heartbeat) -> bytes:
    return bytes(1_000_000)


def test_results_that_were_used_are_not_kept():
    tracemalloc.start()
    for _ in run_in_processes(partial(_returned, _megabyte), range(60), 2):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25_000_000


def _returned(work, stack):
    return work


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_parallel import Doubler
from simreal_envs.parallel import run_in_processes
if __name__ == "__main__":
    list(run_in_processes(partial(Doubler, Path({folder!r}), 60.0), range(2), 2))
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, sent):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("began_*"))) < 2:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.05)
    workers = [int(path.name.removeprefix("made_")) for path in tmp_path.glob("made_*")]
    parent.send_signal(sent)
    parent.wait(timeout=10)
    while any(_alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    assert len(workers) == 2
