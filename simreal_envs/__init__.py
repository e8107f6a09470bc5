"""simreal environments: one Gymnasium interface over robosuite, a virtual rig and a real Franka Panda.

Importing this package is fast: neither torch nor robosuite nor a robot driver is loaded until an
environment is made.
"""

__version__ = "0.1.0"
