"""Independent pieces of work on several processes of this machine, their results as they come."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from simreal_envs.errors import SimrealError

Item = TypeVar("Item")
Result = TypeVar("Result")
Heartbeat = Callable[[], None]
"""Called by a piece of work every now and then; raises KeyboardInterrupt once the parent wants to stop."""

Work = Callable[[Item, Heartbeat], Result]
MakeWork = Callable[[ExitStack], Work[Item, Result]]
"""Sets up what takes long (an environment, a policy); the stack closes it when there is no more work."""


def available_cores() -> int:
    """Cores that this process may use (a container or ``taskset`` may give it fewer than the machine has)."""
    return len(os.sched_getaffinity(0))


def run_in_processes(
    make_work: MakeWork[Item, Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for every item, in the order in which they finish.

    Each process calls ``make_work`` once; with one worker everything runs in this process. ``make_work``,
    items and results must be picklable.
    Leaving the iteration early (an error, Ctrl-C) stops the other pieces at their next heartbeat.

    Raises:
        SimrealError: a process died, for instance of lack of memory.
    """
    if not items:
        return
    workers = min(workers, len(items))
    if workers <= 1:
        with ExitStack() as stack:
            work = make_work(stack)
            for item in items:
                yield work(item, lambda: None)
        return

    context = multiprocessing.get_context("spawn")
    # Not an Event: a process that dies while it reads an Event keeps the Event's lock, and `set` would hang.
    stop = context.RawValue(ctypes.c_bool, False)
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(make_work, stop))
    try:
        yield from _as_they_finish(pool, items, 2 * workers)
    except BrokenProcessPool as error:
        raise SimrealError(
            "A worker process died, most likely of lack of memory; try again with fewer --workers."
        ) from error
    finally:
        stop.value = True
        pool.shutdown(wait=True, cancel_futures=True)


def _as_they_finish(pool: ProcessPoolExecutor, items: Iterable[Item], at_once: int) -> Iterator[Any]:
    """Submit few items at a time: a future keeps its result, and all results may not fit in memory."""
    rest = iter(items)
    pending: set[Future[Any]] = set()
    while True:
        with _children_ignore_interrupts():
            pending |= {pool.submit(_run, item) for item in islice(rest, at_once - len(pending))}
        if not pending:
            return
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        while done:
            yield done.pop().result()


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Start children that ignore Ctrl-C, which reaches every process of the terminal: only the parent acts.

    Processes started inside the block inherit that the signal is blocked. A Ctrl-C that comes meanwhile
    reaches the parent after the block; if the signal were ignored instead, it would be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: dict[str, Any] = {}
"""What a worker process keeps from one item to the next."""


def _start_worker(make_work: MakeWork[Any, Any], stop: ctypes.c_bool) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stack = ExitStack()
    atexit.register(stack.close)
    _worker.update(make_work=partial(make_work, stack), stop=stop)


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise the worker would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(item: Any) -> Any:
    def heartbeat() -> None:
        if _worker["stop"].value:
            raise KeyboardInterrupt

    heartbeat()
    if "work" not in _worker:  # here rather than at the start, so that its errors reach the parent
        _worker["work"] = _worker["make_work"]()
    return _worker["work"](item, heartbeat)
