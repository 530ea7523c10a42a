"""Augmentation: pure functions over whole batches, each image with random numbers of its own."""
