"""Episodes in memory for training, and which of them resemble each other."""
