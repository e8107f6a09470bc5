"""What a client may set on the robot while nothing moves."""

from __future__ import annotations

import numpy as np

from simreal_envs.rig import protocol
from simreal_envs.rig.motion import is_pose
from simreal_envs.rig.panda import Inertia
from simreal_envs.rig.protocol import Command, Status
from simreal_envs.rig.reflexes import Reflexes
from simreal_envs.rig.simulated_arm import SimulatedArm
from simreal_envs.rig.state import RobotState
from simreal_envs.spec import FloatArray

MAX_JOINT_STIFFNESS = 14_250.0
"""N m/rad. This and the following: Franka's documentation of the requests."""
CARTESIAN_STIFFNESS_LOW = np.array([10.0, 10.0, 10.0, 1.0, 1.0, 1.0])
CARTESIAN_STIFFNESS_HIGH = np.array([3000.0, 3000.0, 3000.0, 300.0, 300.0, 300.0])
"""N/m and N m/rad."""

NO_LOAD = Inertia(0.0, np.zeros(3), np.zeros((3, 3)))


class Settings:
    """Passes a client's settings on to the parts of the rig that they belong to."""

    def __init__(self, arm: SimulatedArm, hand: Inertia, state: RobotState, reflexes: Reflexes) -> None:
        self._arm, self._hand, self._state, self._reflexes = arm, hand, state, reflexes
        arm.set_load(hand, NO_LOAD)

    def apply(self, command: Command, body: bytes) -> int:
        """Take a request's values over; returns the answer's status.

        Raises:
            ValueError: the body has another length than the request's.
        """
        if command == Command.SET_GUIDING_MODE:  # which is for the buttons on the robot's wrist
            return Status.SUCCESS
        values = np.frombuffer(body, "<f8")
        sensible = bool(np.isfinite(values).all()) and self._apply(command, values)
        return Status.SUCCESS if sensible else protocol.INVALID_ARGUMENT

    def _apply(self, command: Command, values: FloatArray) -> bool:
        """Whether the values make sense; if so, they hold from now on."""
        arm = self._arm
        if command == Command.SET_COLLISION_BEHAVIOR:
            return self._reflexes.set_thresholds(values.view(protocol.COLLISION_BEHAVIOR)[0])
        if command == Command.SET_JOINT_IMPEDANCE:
            sensible = bool(((values >= 0) & (values <= MAX_JOINT_STIFFNESS)).all())
            arm.stiffness[:] = values if sensible else arm.stiffness
            return sensible
        if command == Command.SET_CARTESIAN_IMPEDANCE:
            sensible = bool(
                ((values >= CARTESIAN_STIFFNESS_LOW) & (values <= CARTESIAN_STIFFNESS_HIGH)).all()
            )
            arm.cartesian_stiffness[:] = values if sensible else arm.cartesian_stiffness
            return sensible
        if command in (Command.SET_EE_TO_K, Command.SET_NE_TO_EE):
            transform = values.reshape(4, 4).T
            if not is_pose(transform):
                return False
            if command == Command.SET_EE_TO_K:
                self._state.set_stiffness_frame(transform)
            else:
                self._state.set_end_effector(transform)
        elif command == Command.SET_LOAD:
            mass, centre, inertia = values[0], values[1:4], values[4:].reshape(3, 3)
            if mass < 0:
                return False
            load = Inertia(float(mass), centre.copy(), inertia.copy())
            arm.set_load(self._hand, load)
            self._state.set_load(load)
        return True  # filters do not exist here
