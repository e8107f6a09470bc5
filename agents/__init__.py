"""simreal agents: everything that acts or learns, and how it is evaluated."""
