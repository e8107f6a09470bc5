"""How an agent learns by trial: its worlds, the algorithms of Stable-Baselines3, and runs."""
