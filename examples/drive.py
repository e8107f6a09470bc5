"""Drive an environment by hand-written actions, record the episode, and look at it as a picture.

python examples/drive.py
"""

import gymnasium as gym
import numpy as np
from PIL import Image

import simreal_envs  # noqa: F401  registers the tasks

env = gym.make("simreal/Stack-v0", env="sim", obs="image", shift="viewpoint+texture", region="ood")
observation, info = env.reset(seed=0)

# The native action: where the end effector shall be (metres), how it is turned (rotation vector, radians),
# and the gripper (-1 open, 1 closed); all in the robot base frame.
down = [np.pi, 0.0, 0.0]
for height_m in np.linspace(0.25, 0.12, 30):
    action = np.array([0.55, 0.0, height_m, *down, -1.0], dtype=np.float32)
    observation, reward, terminated, truncated, info = env.step(action)

print(f"end effector at {observation['robot0_eef_pos']} m, stage {info['stage']!r}")
Image.fromarray(observation["agentview_image"]).resize((640, 480)).save("drive.png")
