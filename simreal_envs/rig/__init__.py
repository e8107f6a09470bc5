"""A process that stands in for the robot and its camera, spoken to in the robot's own protocol."""
