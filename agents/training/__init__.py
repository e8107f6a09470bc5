"""How a policy is trained: batches, augmentation, alignment, updates and runs."""
