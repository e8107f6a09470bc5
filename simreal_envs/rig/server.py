"""The rig's process: a robot, a hand and a table that live at 1 kHz behind three ports of one address."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from simreal_envs.errors import UsageError
from simreal_envs.latest import Latest
from simreal_envs.rig import faults as fault_names
from simreal_envs.rig.control import ControlServer, Operations
from simreal_envs.rig.faults import Faults, check_value
from simreal_envs.rig.fci import RobotServer
from simreal_envs.rig.gripper import Fingers, GripperServer
from simreal_envs.rig.model_library import ModelLibrary, build
from simreal_envs.rig.panda import LINKS
from simreal_envs.rig.simulated_arm import TICK_S, SimulatedArm
from simreal_envs.rig.sockets import Poller
from simreal_envs.rig.stereo import FAULTS as CAMERA_FAULTS
from simreal_envs.rig.world import STATE, RigWorld
from simreal_envs.scheduling import run_first
from simreal_envs.spec import FloatArray, check_choice

PRIORITY = 1
"""Of 99: above everything that is not real-time, below the driver that answers."""
LONGEST_CATCH_UP_S = 0.02
"""A loop that is behind runs faster; time that it is further behind than this is skipped."""

SHORTEST_PAUSE_S = 3e-4
"""After a tick, for the client to answer, also while the loop catches up."""

PUBLISH_TICKS = 5
"""The scene's state is shared every 5 ms."""


class RigServer:
    """The server of one address: robot, hand, table and the rig's own channel.

    Args:
        host: address, for instance 127.0.0.2.
        task, shift: the task whose scene is served, and how the camera sees it.
        camera: whether a camera's process is started beside.
        enforce_loss: see :class:`simreal_envs.rig.fci.RobotServer`.

    Attributes:
        arm, robot, world: its parts.
        operations: what the rig's own channel can ask for, by name.

    Raises:
        OSError: the address is taken, or not this machine's.
    """

    def __init__(self, host: str, task: str, shift: str, camera: bool, enforce_loss: bool) -> None:
        self.host = host
        self._about: dict[str, Any] = {"task": task, "shift": shift, "host": host, "camera": camera}
        self.faults, self.poller = Faults(), Poller()
        # The ports first: an address that is taken is found out before the scene is built.
        self.operations: Operations = {
            "describe": lambda: self._about,
            "status": self.status,
            "place": self._place,
            "reset": self._reset,
            "object_poses_in_base": self._object_poses_in_base,
            "subtask_signals": lambda: self.world.stages_reached(),
            "closeness": lambda: self.world.closeness(),
            "sim_state": lambda: self.world.physics.get_state().tolist(),
            "model_xml": lambda: self.world.model_xml,
            "inject": self.inject,
            "pull": self._pull,
        }
        self._control = ControlServer(self.operations, self.poller, host)
        self.world: RigWorld = RigWorld(task)
        library = build(LINKS)
        self.arm = SimulatedArm(self.world.model, self.world.data, ModelLibrary(library))
        self.robot = RobotServer(
            self.arm,
            self.world.hand,
            Path(library).read_bytes(),
            self.poller,
            host,
            self.faults,
            enforce_loss,
        )
        self._fingers = Fingers(self.world.model, self.world.data)
        self._gripper = GripperServer(self._fingers, self.poller, host, self.faults)
        self._state = Latest(f"rig-{host}-state", STATE, create=True)
        self._camera_faults = Latest(f"rig-{host}-faults", CAMERA_FAULTS, create=True)
        self._record = np.zeros((), STATE)
        self._publish()
        self._publish_camera_faults()
        self._ticks = self._skipped = 0
        self._real_time = False
        self._began = time.perf_counter()

    # --- the loop -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Live in real time until the process is interrupted."""
        gc.collect()
        gc.freeze()  # the scene's many objects need not be looked through again
        self._real_time = run_first(PRIORITY)
        self._began = due = time.perf_counter()
        while True:
            self.tick()
            due += TICK_S
            left = due - time.perf_counter()
            if left < -LONGEST_CATCH_UP_S:
                self._skipped += round(-left / TICK_S)
                due -= left
            time.sleep(max(left, SHORTEST_PAUSE_S))

    def tick(self) -> None:
        """One millisecond."""
        self._ticks += 1
        self.poller.poll()
        self.robot.tick()
        self._gripper.tick()
        if self._ticks % PUBLISH_TICKS == 0:
            self._publish()

    def close(self) -> None:
        """Remove the shared memory."""
        self._state.close()
        self._camera_faults.close()

    def _publish(self) -> None:
        data = self.world.data
        self._record["time"] = data.time
        self._record["qpos"][: data.qpos.size] = data.qpos
        self._state.write(self._record)

    def _publish_camera_faults(self) -> None:
        self._camera_faults.write(
            np.array((self.faults.camera_stall, self.faults.camera_unplug), CAMERA_FAULTS)
        )

    # --- what the channel does ----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Milliseconds lived and skipped, seconds, whether scheduled in real time, commands lost, faults."""
        statistics = self.robot.statistics
        return {
            "ticks": self._ticks,
            "skipped": self._skipped,
            "seconds": time.perf_counter() - self._began,
            "cpu_seconds": time.process_time(),
            "real_time": self._real_time,
            "client": self.robot.client,
            "moving": self.robot.moving,
            **vars(statistics),
            "faults": {name: value for name, value in vars(self.faults).items() if value},
        }

    def inject(self, fault: str, value: str | float | None = None) -> None:
        """Make something go wrong, or right again (``none``)."""
        checked = check_value(check_choice("fault", fault, fault_names.FAULTS), value)
        faults = self.faults
        if fault == "none":
            was_cut, was_stopped = faults.link_cut, faults.user_stop
            vars(faults).update(vars(Faults()))
            self._fingers.stop()
            if was_stopped:
                self.robot.release_user_stop()
            if was_cut:
                self.robot.mend_link()
                self._gripper.close_client()
        elif fault == "reflex":
            self.robot.reflex(str(checked))
        elif fault == "user_stop":
            faults.user_stop = True
            self.robot.user_stop()
        elif fault == "packet_loss":
            faults.packet_loss = float(checked or 0.0)
        elif fault == "link_cut":
            faults.link_cut = True
            self.robot.cut_link()
        elif fault == "clock_jump":
            self.robot.state.jump(round(1000 * float(checked or 0.0)))
        else:
            setattr(faults, fault, True)
        self._publish_camera_faults()

    def _place(self, placement: Any) -> None:
        self.world.place(placement)
        self._publish()

    def _reset(self) -> None:
        if self.robot.moving:
            raise UsageError("The arm is being controlled; stop it before the scene is reset.")
        self.world.reset()
        self.arm.jumped()
        self._fingers.stop()
        self._publish()

    def _object_poses_in_base(self) -> dict[str, list[list[float]]]:
        return {name: pose.tolist() for name, pose in self.world.object_poses_in_base().items()}

    def _pull(self, pose_target_in_base: list[list[float]] | None) -> None:
        if pose_target_in_base is None:
            self.arm.let_go()
            return
        target: FloatArray = np.asarray(pose_target_in_base, dtype=np.float64)
        if target.shape != (4, 4) or not np.isfinite(target).all():
            raise UsageError(f"A pose to pull to has shape (4, 4) and is finite, not {target.tolist()}.")
        self.arm.pull_target_in_base = target


def serve(
    host: str,
    task: str,
    shift: str,
    camera: bool,
    faults: Sequence[tuple[str, str | None]],
    enforce_loss: bool,
) -> None:
    """Run a rig until the process is interrupted; prints ``{}`` once it is ready.

    Raises:
        UsageError: the address is taken, or not this machine's.
    """
    threadpool_limits(1)  # matrices of 7 x 7 are slower on several threads
    try:
        rig = RigServer(host, task, shift, camera, enforce_loss)
    except OSError as error:
        raise UsageError(f"A virtual rig cannot listen at {host}: {error.strerror or error}.") from error
    try:
        for name, value in faults:
            rig.inject(name, value)
        print("{}", flush=True)
        rig.run()
    finally:
        rig.close()
