"""Which images a step uses: the steps and the order of an epoch, and each process's share of a batch."""

from __future__ import annotations

import numpy as np

from wrn.data.random import generator


def steps_in_epoch(images: int, batch_size: int) -> int:
    """Steps per pass over all images; the last batch of an epoch may be smaller."""
    return -(-images // batch_size)


def share_of(size: int, rank: int, world_size: int) -> slice:
    """The rows of a global batch of `size` images that a process gets.

    Shares are contiguous, cover the batch without overlap, and have even sizes (except at the end of an odd batch), so
    that mixing neighbouring pairs stays within a process.
    """
    pairs = (size + 1) // 2
    first, last = rank * pairs // world_size, (rank + 1) * pairs // world_size
    return slice(min(2 * first, size), min(2 * last, size))


def epoch_order(images: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of the images, int64 (images,), different for every epoch."""
    return generator(seed, "order", epoch).permutation(images)
