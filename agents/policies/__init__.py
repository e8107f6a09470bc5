"""What a policy is: its configuration, network, checkpoints, and the actor that runs it."""
