"""Cleaning up without hiding the first error, which says what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("simreal")

CleanUp = Callable[[], object]


@contextmanager
def finally_do(clean_up: CleanUp) -> Iterator[None]:
    """Clean up when the block ends, however it ends; an error of the block is the one that is raised."""
    try:
        yield
    except BaseException as error:
        do_after(error, clean_up)
        raise
    clean_up()


def do_after(first: BaseException | None, clean_up: CleanUp) -> None:
    """Clean up in an ``__exit__``, where ``first`` is the error that is on its way, if any.

    If there is a first error, an error of the cleaning up is only logged, so that it does not replace the
    first. A Ctrl-C during the cleaning up is raised, and the first error is logged instead.
    """
    try:
        clean_up()
    except Exception as second:
        if first is None:
            raise
        log.error("Cleaning up after the error failed, too: %s", _words(second))
    except BaseException:
        if isinstance(first, Exception):
            log.error("Interrupted while cleaning up after this: %s", _words(first))
        raise


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
