"""The records that the arm's driver and the user's process exchange through shared memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from simreal_envs.latest import Latest
from simreal_envs.robot.causes import LINK_LOST
from simreal_envs.spec import FloatArray

MODES = ("idle", "moving", "controlling", "holding", "guiding", "stopped", "fault")
"""``holding``: in control without recent actions, or coming to rest. ``stopped``: by a limit of ours.
``fault``: by the robot."""

COMMAND = np.dtype(
    [
        ("number", "<i8"),  # grows with every action
        ("time_s", "<f8"),  # of the action, monotonic clock
        ("alive_s", "<f8"),  # when the user's process last showed that it runs
        ("pose_target_in_base", "<f8", (4, 4)),
        ("joints_target_rad", "<f8", (7,)),
        ("gripper", "<f8"),  # -1 open to 1 closed
    ]
)

STATE = np.dtype(
    [
        ("time_s", "<f8"),
        ("pose_in_base", "<f8", (4, 4)),
        ("pose_target_in_base", "<f8", (4, 4)),
        ("joints_rad", "<f8", (7,)),
        ("joint_speeds_radps", "<f8", (7,)),
        ("force_N", "<f8", (3,)),
        ("torque_Nm", "<f8", (3,)),
        ("gripper_width_m", "<f8"),
        ("grasped", "u1"),
        ("gripper_homed", "u1"),
        ("success_rate", "<f8"),
        ("mode", "u1"),
        ("events", "<i8"),  # how many there have been
        ("fault", "S400"),
    ]
)

_EVENT = np.dtype([("time_s", "<f8"), ("kind", "S16"), ("message", "S400")])
_KEPT = 64
_EVENTS = np.dtype([("count", "<i8"), ("ring", _EVENT, (_KEPT,))])


@dataclass(frozen=True)
class ArmState:
    """The arm at one moment, base frame.

    Attributes:
        time_s: monotonic clock.
        pose_in_base: (4, 4) of the end effector. ``pose_target_in_base``: where it is to be.
        joints_rad: (7,). ``joint_speeds_radps``: (7,).
        force_N: (3,), ``torque_Nm``: (3,), on the end effector, as the robot estimates them.
        gripper_width_m: between the fingers. ``grasped``: whether the hand says that it holds something.
        gripper_homed: whether the hand knows its range; it does not after it was switched on.
        mode: one of :data:`MODES`.
        fault: why the arm has stopped and must be recovered, or empty.
        success_rate: part of the last 100 commands of the 1 kHz loop that the robot got in time.
    """

    time_s: float
    pose_in_base: FloatArray
    pose_target_in_base: FloatArray
    joints_rad: FloatArray
    joint_speeds_radps: FloatArray
    force_N: FloatArray
    torque_Nm: FloatArray
    gripper_width_m: float
    grasped: bool
    gripper_homed: bool
    mode: str
    fault: str
    success_rate: float

    @classmethod
    def of(cls, record: np.ndarray, fault: str) -> ArmState:
        """From the driver's record; ``fault`` may come from elsewhere, for a driver can have died."""
        lost = fault.startswith(LINK_LOST)
        return cls(
            time_s=float(record["time_s"]),
            pose_in_base=record["pose_in_base"],
            pose_target_in_base=record["pose_target_in_base"],
            joints_rad=record["joints_rad"],
            joint_speeds_radps=record["joint_speeds_radps"],
            force_N=record["force_N"],
            torque_Nm=record["torque_Nm"],
            gripper_width_m=float(record["gripper_width_m"]),
            grasped=bool(record["grasped"]),
            gripper_homed=bool(record["gripper_homed"]),
            mode="fault" if lost else MODES[int(record["mode"])],
            fault=fault,
            success_rate=float(record["success_rate"]),
        )


@dataclass(frozen=True)
class Event:
    """Something that the driver did or saw.

    Attributes:
        time_s: monotonic clock.
        kind: ``connected``, ``found``, ``limited``, ``hold``, ``stop``, ``fault``, ``recovered``, ...
        message: what and why, for the operator.
    """

    time_s: float
    kind: str
    message: str


class EventLog:
    """The driver's last events; one process adds, another reads what is new to it."""

    def __init__(self, name: str, create: bool = False) -> None:
        self._latest = Latest(f"{name}-events", _EVENTS, create)
        self._record = np.zeros((), _EVENTS)
        self._seen = 0

    @property
    def count(self) -> int:
        """Events that this process has added or seen."""
        return max(self._seen, int(self._record["count"]))

    def add(self, kind: str, message: str) -> None:
        """Write an event, in the place of the oldest one."""
        entry = (time.monotonic(), kind.encode(), as_bytes(message))
        self._record["ring"][int(self._record["count"]) % _KEPT] = entry
        self._record["count"] += 1
        self._latest.write(self._record)

    def new(self) -> list[Event]:
        """The events since the last call, oldest first; says so if some were overwritten meanwhile."""
        record = self._latest.read()
        count, events = int(record["count"]), []
        first = max(self._seen, count - _KEPT)
        if first > self._seen:
            events.append(
                Event(time.monotonic(), "events", f"{first - self._seen} events were not read in time")
            )
        for i in range(first, count):
            entry = record["ring"][i % _KEPT]
            events.append(Event(float(entry["time_s"]), entry["kind"].decode(), as_text(entry["message"])))
        self._seen = count
        return events

    def close(self) -> None:
        """The creator removes the memory's name."""
        self._latest.close()


def as_bytes(text: str) -> bytes:
    """For a field of 400 bytes; the end of a longer text is lost."""
    return text.encode()[:400]


def as_text(field: np.ndarray) -> str:
    """The inverse of :func:`as_bytes`."""
    return bytes(field).decode(errors="ignore")
