"""Serving a policy to other computers."""
