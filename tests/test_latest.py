"""Shared memory between processes: whole records only, and nobody waits for the dead."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from simreal_envs.latest import Latest

RECORD = np.dtype([("number", "<i8"), ("values", "<f8", (2000,))])


def record(number: int) -> np.ndarray:
    value = np.zeros((), RECORD)
    value["number"], value["values"] = number, number
    return value


def write_forever(name: str) -> None:
    with Latest(name, RECORD, create=True) as latest:
        number = 0
        while True:
            number += 1
            latest.write(record(number))


@pytest.fixture
def writer() -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=write_forever, args=(f"test-{os.getpid()}",), daemon=True
    )
    process.start()
    return process


def reader() -> Latest:
    for _ in range(300):
        try:
            latest = Latest(f"test-{os.getpid()}", RECORD)
            if latest.written:
                return latest
        except FileNotFoundError:
            pass
        time.sleep(0.05)
    raise AssertionError("the writer did not start")


def test_a_reader_sees_whole_records_in_order_and_survives_the_writer(
    writer: multiprocessing.process.BaseProcess,
) -> None:
    latest, last = reader(), 0
    for _ in range(2000):
        value = latest.read()
        assert (value["values"] == value["number"]).all()
        assert value["number"] >= last
        last = int(value["number"])
    assert last > 1
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    value = latest.read()
    assert (value["values"] == value["number"]).all()
    assert value["number"] >= last
    latest.path.unlink()


def test_a_writer_that_is_paused_anywhere_leaves_the_last_whole_record(
    writer: multiprocessing.process.BaseProcess,
) -> None:
    latest = reader()
    assert writer.pid is not None
    for _ in range(100):  # it does nothing but write, so most pauses are in the middle of a record
        os.kill(writer.pid, signal.SIGSTOP)
        value = latest.read()
        os.kill(writer.pid, signal.SIGCONT)
        assert (value["values"] == value["number"]).all()
        time.sleep(0.001)
    writer.kill()
    writer.join()
    latest.path.unlink()


def test_a_reader_without_a_writer_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        Latest(f"nobody-{os.getpid()}", RECORD)


def test_closing_removes_the_name() -> None:
    latest = Latest(f"closed-{os.getpid()}", RECORD, create=True)
    latest.write(record(3))
    assert Latest(f"closed-{os.getpid()}", RECORD).read()["number"] == 3
    latest.close()
    assert not latest.path.exists()
