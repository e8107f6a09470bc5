"""simreal environments: one Gymnasium interface over robosuite, a virtual rig and a real Franka Panda.

Importing this package is fast: neither torch nor robosuite nor a robot driver is loaded until an
environment is made. It registers the tasks with Gymnasium::

    import gymnasium as gym
    import simreal_envs

    env = gym.make("simreal/Stack-v0", env="sim", obs="image", shift="viewpoint+texture", region="ood")
"""

from simreal_envs.registration import register

__version__ = "0.1.0"

register()
