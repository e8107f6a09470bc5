"""Episodes on disk: recorded, written, listed, chosen and edited."""
