"""Devices: what was really typed or reported becomes motion, and motion becomes targets."""

from __future__ import annotations

import os
import pty
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreal_agents.operators.devices import DEVICES, Motion
from simreal_agents.operators.devices.keyboard import FINE, FIRST_STEPS, HOLD_STEPS, START, Keyboard
from simreal_agents.operators.teleoperation import GuidedHand, GuidedRecorder, Teleoperator, hand_pose_in_base
from simreal_agents.operators.terminal import Terminal, decode_keys
from simreal_envs.errors import MissingDependencyError, RobotError, UsageError
from simreal_envs.loop import Step
from simreal_envs.poses import pose_from_action
from simreal_envs.robot.pace import Pace
from simreal_envs.spec import CONTROL_HZ, WORKSPACE_HIGH_M, WORKSPACE_LOW_M, action_space

# --- keyboard -------------------------------------------------------------------------------------


@given(st.binary(max_size=40))
def test_whatever_a_terminal_sends_becomes_known_keys(typed: bytes) -> None:
    keys = decode_keys(typed)
    assert all(len(key) == 1 or key in ("enter", "backspace", "up", "down", "left", "right") for key in keys)


def test_sequences_of_other_keys_are_not_taken_for_letters() -> None:
    page_down_f5_and_shift_arrow = b"\x1b[6~\x1b[15~\x1b[1;2A"
    assert decode_keys(b"w" + page_down_f5_and_shift_arrow + b"\x1b[Aq\r\x7f") == [
        "w",
        "up",
        "q",
        "enter",
        "backspace",
    ]


def steered(typed: Sequence[tuple[float, str]], steps: int) -> np.ndarray:
    """(steps,) speed along the axis that moves, of keys typed at times (s), in part of the full one."""
    keyboard, waiting, speeds = Keyboard(), list(typed), []
    for step in range(steps):
        now = [key for time_s, key in waiting if time_s <= step / CONTROL_HZ]
        waiting = waiting[len(now) :]
        speeds.append(keyboard.read(now).velocity.sum())
    return np.array(speeds)


def held(key: str, from_s: float, to_s: float, delay_s: float, every_s: float) -> list[tuple[float, str]]:
    """What a terminal sends of a key that is held."""
    return [(from_s, key), *((float(t), key) for t in np.arange(from_s + delay_s, to_s, every_s))]


@given(
    st.floats(0.0, 0.05), st.floats(1.0, 3.0), st.floats(0.25, 0.66), st.floats(0.025, 0.095),
    st.sampled_from("wW"),
)  # fmt: skip
def test_a_held_key_moves_without_a_gap_and_stops_soon_after_its_release(
    pressed_s: float, seconds: float, delay_s: float, every_s: float, key: str
) -> None:
    """Whatever the terminal's settings are, and wherever in a step its signals fall."""
    released_s = pressed_s + seconds
    speeds = steered(held(key, pressed_s, released_s, delay_s, every_s), 100)
    full = FINE if key == "W" else 1.0
    first, release = int(np.ceil(pressed_s * CONTROL_HZ)), int(np.ceil(released_s * CONTROL_HZ))
    moving = speeds[first:release]
    assert (moving >= START * full).all()
    assert (np.diff(moving) >= 0).all()  # slow at first, never slower again
    assert moving[int(np.ceil(delay_s * CONTROL_HZ)) + 1] == full
    assert speeds[release:].sum() <= HOLD_STEPS * full
    assert not speeds[release + HOLD_STEPS :].any()


def test_a_tap_is_a_small_step_and_any_other_key_ends_it() -> None:
    assert steered([(0.0, "w")], 40).tolist() == [START] * FIRST_STEPS + [0.0] * (40 - FIRST_STEPS)
    assert steered([(0.0, "W")], 40).sum() == FIRST_STEPS * START * FINE
    for other in (" ", "c", "enter", "q"):
        assert steered([(0.0, "w"), (0.1, other)], 40).sum() == 2 * START
    replaced = [keyboard_speeds.tolist() for keyboard_speeds in both_axes([(0.0, "w"), (0.1, "a")], 4)]
    assert replaced == [[START, 0.0], [START, 0.0], [0.0, START], [0.0, START]]


def both_axes(typed: Sequence[tuple[float, str]], steps: int) -> list[np.ndarray]:
    keyboard = Keyboard()
    return [
        keyboard.read([key for time_s, key in typed if round(time_s * CONTROL_HZ) == step]).velocity[:2]
        for step in range(steps)
    ]


@pytest.mark.alone
def test_a_key_held_at_a_terminal_moves_the_target_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a real pseudo-terminal in real time: a press, half a second, repetitions, a release."""
    window, program = pty.openpty()
    began_s = time.monotonic()

    def type_as_terminals_do() -> None:
        for due_s, key in held("w", 0.2, 1.7, delay_s=0.5, every_s=0.033):
            time.sleep(max(0.0, began_s + due_s - time.monotonic()))
            os.write(window, key.encode())

    with os.fdopen(program) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        keyboard, speed_mps = Keyboard(), 0.1
        with Terminal() as terminal:
            actor = Teleoperator(lambda: keyboard.read(terminal.keys()), speed_mps)
            state, reached_m, at_s = None, [], []
            typist = threading.Thread(target=type_as_terminals_do)
            typist.start()
            pace = Pace()
            pace.start()
            for _ in range(50):
                place = (0.5, 0.0, 0.2) if state is None else tuple(state[0][:3, 3])  # an arm that follows
                _, state = actor.predict(observation(place), state, np.array([state is None]))
                reached_m.append(state[0][0, 3])
                at_s.append(time.monotonic() - began_s)
                pace.wait()
            typist.join()
    os.close(window)
    speeds_mps = np.diff(reached_m) * CONTROL_HZ
    at = np.array(at_s[1:])
    held_then, after = (at > 0.3) & (at < 1.65), reached_m[-1] - np.interp(1.7, at_s, reached_m)
    assert (speeds_mps[held_then] > 0.9 * START * speed_mps).all()
    np.testing.assert_allclose(speeds_mps[(at > 0.85) & (at < 1.65)], speed_mps, rtol=0.01)
    assert 0 <= after <= HOLD_STEPS / CONTROL_HZ * speed_mps * 1.01
    assert not speeds_mps[at > 2.0].any()


def test_every_axis_has_a_key_for_each_direction() -> None:
    reached = {tuple(Keyboard().read([key, key]).velocity) for key in "wsadrfjlikuo"}
    assert reached == {tuple(sign * row) for row in np.eye(6) for sign in (1.0, -1.0)}
    assert Keyboard().read(["c"]).grip == "close"
    assert Keyboard().read(["v"]).grip == "open"


# --- from motion to targets -----------------------------------------------------------------------


def observation(position_m: tuple[float, float, float] = (0.5, 0.0, 0.2)) -> dict[str, np.ndarray]:
    return {
        "robot0_eef_pos": np.array(position_m, np.float32),
        "robot0_eef_quat": np.array([1.0, 0.0, 0.0, 0.0], np.float32),
    }


def test_the_target_is_moved_on_and_not_the_measured_pose() -> None:
    actor = Teleoperator(lambda: Motion(np.array([0, 0, -1.0, 0, 0, 0])), speed_mps=0.1)
    state, start = None, np.array([True])
    heights = []
    for sag_m in (0.0, 0.01, 0.02):  # an arm that is not quite where it shall be
        action, state = actor.predict(observation((0.5, 0.0, 0.2 - sag_m)), state, start)
        start = np.array([False])
        heights.append(action[2])
    np.testing.assert_allclose(heights, [0.195, 0.190, 0.185], atol=1e-6)


def test_pushing_against_the_table_does_not_wind_up() -> None:
    actor = Teleoperator(lambda: Motion(np.array([0, 0, -1.0, 0, 0, 1.0])), speed_mps=0.2)
    state = None
    for _ in range(50):
        action, state = actor.predict(observation((0.5, 0.0, 0.1)), state, np.array([state is None]))
    assert action[2] == pytest.approx(0.05, abs=1e-6)
    turned = pose_from_action(action)[:3, :3] @ hand_pose_in_base(observation())[:3, :3].T
    assert np.arccos((np.trace(turned) - 1) / 2) == pytest.approx(0.5, abs=1e-5)


def test_an_operator_who_does_nothing_leaves_the_target_where_it_is() -> None:
    actor = Teleoperator(Motion, speed_mps=0.1)
    first, state = actor.predict(observation(), None, np.array([True]))
    for _ in range(1000):
        action, state = actor.predict(observation(), state, np.array([False]))
    np.testing.assert_allclose(pose_from_action(action), pose_from_action(first), atol=1e-5)
    assert action[6] == -1.0


@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 6), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_any_motion_gives_actions_that_worlds_accept(
    motions: list[tuple[float, ...]], speed_mps: float
) -> None:
    script = iter([Motion(np.array(m), "toggle") for m in motions])
    actor = Teleoperator(lambda: next(script), speed_mps)
    state = None
    for _ in motions:
        action, state = actor.predict(observation(), state, np.array([state is None]))
        assert action_space("pose").contains(action)
        assert np.all(state[0][:3, 3] + 1e-6 >= WORKSPACE_LOW_M)
        assert np.all(state[0][:3, 3] <= WORKSPACE_HIGH_M + 1e-6)


@pytest.mark.parametrize("speed_mps", [0.0, -0.1, 0.51, float("nan")])
def test_speeds_that_are_none_are_refused(speed_mps: float) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        Teleoperator(Motion, speed_mps)


def test_guiding_records_where_the_hand_went() -> None:
    grips = iter(["", "close", ""])
    actor, recorder = GuidedHand(lambda: Motion(grip=next(grips))), GuidedRecorder()  # type: ignore[arg-type]
    state = None
    heights_m = (0.30, 0.25, 0.22)
    for i, height_m in enumerate(heights_m):
        seen = observation((0.5, 0.0, height_m))
        action, state = actor.predict(seen, state, np.array([i == 0]))
        recorder(Step(seen, action, 0.0, False, i == 2, {}))
    actions = np.stack([step.action for step in recorder._steps])
    np.testing.assert_allclose(actions[:, 2], [0.25, 0.22, 0.22], atol=1e-6)
    assert actions[:, 6].tolist() == [-1.0, 1.0, 1.0]  # the gripper's command stays at its own step


# --- gamepad: raw events of Linux through evdev's own parser ------------------------------------------

EVENT = "llHHi"  # struct input_event: seconds, microseconds, type, code, value


@pytest.fixture
def gamepad() -> Iterator[tuple[object, int]]:
    """A gamepad whose events are read from a pipe; returns it and where to write them."""
    evdev = pytest.importorskip("evdev", reason="needs the extra 'devices'")
    from evdev.eventio import EventIO

    from simreal_agents.operators.devices.gamepad import Gamepad

    class Recorded(EventIO):
        """evdev's reader, on a pipe; an axis is 16 bit as of an Xbox pad, the direction pad -1 to 1."""

        def __init__(self, fd: int) -> None:
            self.fd = fd

        def capabilities(self, absinfo: bool = True) -> dict[int, list[tuple[int, object]]]:
            e = evdev.ecodes
            stick = evdev.AbsInfo(value=0, min=-32768, max=32767, fuzz=16, flat=128, resolution=0)
            pad = evdev.AbsInfo(value=0, min=-1, max=1, fuzz=0, flat=0, resolution=0)
            sticks = [(code, stick) for code in (e.ABS_X, e.ABS_Y, e.ABS_RX, e.ABS_RY)]
            return {e.EV_ABS: [*sticks, (e.ABS_HAT0X, pad), (e.ABS_HAT0Y, pad)]}

        def close(self) -> None:
            os.close(self.fd)

    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    pad = Gamepad(Recorded(reading))
    yield pad, writing
    pad.close()
    os.close(writing)


def test_gamepad_events_become_motion(gamepad: tuple[Keyboard, int]) -> None:
    pad, writing = gamepad
    assert not pad.read([])

    def report(*events: tuple[int, int, int]) -> Motion:
        os.write(writing, b"".join(struct.pack(EVENT, 1, 0, *event) for event in (*events, (0, 0, 0))))
        return pad.read([])

    ahead = report((3, 0x01, -32768), (3, 0x00, 1200))  # ABS_Y to the front, ABS_X within the dead band
    np.testing.assert_allclose(ahead.velocity, [1, 0, 0, 0, 0, 0], atol=1e-4)
    np.testing.assert_array_equal(pad.read([]).velocity, ahead.velocity)  # a stick that is held says nothing
    up_and_turned = report((3, 0x01, 0), (3, 0x04, -32768), (3, 0x03, -32768))
    np.testing.assert_allclose(up_and_turned.velocity, [0, 0, 1, 0, 0, 1], atol=1e-4)
    finer = report((1, 0x136, 1))  # BTN_TL
    np.testing.assert_allclose(finer.velocity, [0, 0, 0.25, 0, 0, 0.25], atol=1e-4)
    pressed = report((1, 0x130, 1), (1, 0x13B, 1))  # BTN_SOUTH, BTN_START
    assert pressed.grip == "toggle"
    assert pressed.keys == ("enter",)
    assert report((1, 0x130, 0), (1, 0x13B, 0), (1, 0x13A, 1)).keys == ("backspace",)


def test_a_gamepad_that_is_pulled_out_is_named(gamepad: tuple[Keyboard, int]) -> None:
    pad, _ = gamepad
    os.dup2(os.open("/", os.O_RDONLY), pad._device.fd)  # type: ignore[attr-defined]  # reading it fails
    with pytest.raises(RobotError, match="The gamepad is gone"):
        pad.read([])


# --- SpaceMouse: raw HID reports through pyspacemouse's own parser --------------------------------------


def test_spacemouse_reports_become_motion_in_the_base_frame() -> None:
    pyspacemouse = pytest.importorskip("pyspacemouse", reason="needs the extra 'devices'")
    from pyspacemouse.config_helpers import apply_axis_convention
    from pyspacemouse.device import SpaceMouseDevice
    from pyspacemouse.loader import get_device_specs

    from simreal_agents.operators.devices.spacemouse import SpaceMouse

    class Reports:
        """In place of the USB device alone: what it would send, one report a read."""

        pending: list[bytes] = []

        def read(self, length: int) -> bytes:
            return self.pending.pop(0) if self.pending else b""

        def close(self) -> None: ...

    model = apply_axis_convention(get_device_specs()["SpaceMouseWireless"], pyspacemouse.AxisConvention.ROS)
    reports = Reports()
    mouse = SpaceMouse(SpaceMouseDevice(model, reports))

    def send(*report: bytes) -> Motion:
        reports.pending += report
        return mouse.read([])

    def axes(x: int = 0, y: int = 0, z: int = 0, rx: int = 0, ry: int = 0, rz: int = 0) -> bytes:
        """Report 1 of a SpaceMouse Wireless: right, towards the user, down, and the turns about them."""
        return struct.pack("<B6h", 1, x, y, z, rx, ry, rz)

    assert not send()
    np.testing.assert_allclose(send(axes(y=-350)).velocity, [1, 0, 0, 0, 0, 0])  # pushed away: forward
    np.testing.assert_allclose(send(axes(x=-350)).velocity, [0, 1, 0, 0, 0, 0])  # to the left
    np.testing.assert_allclose(send(axes(z=-175)).velocity, [0, 0, 0.5, 0, 0, 0])  # pulled up
    np.testing.assert_allclose(send(axes(rz=-350)).velocity, [0, 0, 0, 0, 0, 1])  # turned to the left
    np.testing.assert_allclose(send(axes(x=350), axes(x=10)).velocity, 0.0)  # the last report counts
    assert send(struct.pack("<BB", 3, 1)).grip == "toggle"
    assert send().grip == ""
    assert send(struct.pack("<BB", 3, 2)).keys == ("enter",)
    assert mouse.read(["c"]).grip == "close"


@pytest.mark.parametrize("name", ["gamepad", "spacemouse"])
def test_a_device_that_is_not_there_is_one_clear_error(name: str) -> None:
    with pytest.raises((RobotError, MissingDependencyError), match=r"pip install|apt-get|Plug it in"):
        DEVICES[name]()
