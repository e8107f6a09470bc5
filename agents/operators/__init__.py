"""A person beside the robot: devices, sessions, replay and attended evaluation."""
