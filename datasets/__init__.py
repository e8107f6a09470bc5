"""simreal datasets: episodes on disk, imported, generated, paired and loaded for training."""
