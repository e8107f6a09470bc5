"""The Franka Panda and its RealSense D435; the virtual rig is driven by the same code."""
