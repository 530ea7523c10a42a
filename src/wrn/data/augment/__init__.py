"""Augmentation: pure functions over whole batches, with separate random numbers for each image."""
