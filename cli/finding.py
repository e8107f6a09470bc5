"""One line of ``simreal doctor``."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """A finding: what was checked, with which result, and what to do about it."""

    status: Status
    subject: str
    found: str
    remedy: str = ""
