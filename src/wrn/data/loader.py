"""Batches from a split that lives on the device: gathered, augmented and normalised there, a whole batch at a time.

The batch of step s is a pure function of (seed, s). Going on in the middle of an epoch needs no saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch

from wrn.data.augment.batch import Batch
from wrn.data.augment.pipeline import AugmentOptions, Pipeline
from wrn.data.dataset import Split
from wrn.data.random import BatchRandom, generator
from wrn.data.resize import resize_split

Statistics = tuple[float, float, float]


class Loader(Protocol):
    """Where training batches come from."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image comes once; the last batch of an epoch may be smaller."""

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps start..stop-1, counted over the whole run."""


def share_of(size: int, rank: int, world_size: int) -> slice:
    """The rows of a global batch of `size` images that a process has.

    Shares are contiguous, cover the batch without overlap, and are even in size (except where an odd batch ends),
    so that mixing in neighbouring pairs stays within a process. Some may be empty when the batch is tiny.
    """
    pairs = (size + 1) // 2
    first, last = rank * pairs // world_size, (rank + 1) * pairs // world_size
    return slice(min(2 * first, size), min(2 * last, size))


def epoch_order(images: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of the images, int64 (images,), another for every epoch."""
    return generator(seed, "order", epoch).permutation(images)


class DeviceLoader:
    """The loader without worker processes.

    split: moved to `device` once, 3 kB an image. batch_size: images per step over all processes.
    resolution_at: the side in pixels at a step; the split is resized when it changes.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        pipeline: Pipeline,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        resolution_at: Callable[[int], int] | None = None,
    ) -> None:
        # Channels-last: a pixel's three bytes lie together, so that whole pixels can be gathered.
        images = split.images.to(device).contiguous(memory_format=torch.channels_last)
        self._full = Split(images, split.labels.to(device))
        self._shown = self._full
        self._batch_size = batch_size
        self._pipeline = pipeline
        self._seed = seed
        self._device = device
        self._rank = rank
        self._world_size = world_size
        self._resolution_at = resolution_at
        self._order = torch.empty(0, dtype=torch.int64)
        self._order_epoch = -1

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._full) // self._batch_size)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        for step in range(start, stop):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of step `step`."""
        if self._resolution_at is not None:
            self._show(self._resolution_at(step))
        indices = self._indices(step)
        rows = share_of(len(indices), self._rank, self._world_size)
        rng = BatchRandom(generator(self._seed, "augment", step), len(indices), rows=rows, device=self._device)
        indices = indices[rows]
        # By whole images as they lie in memory: several times faster on a CPU than indexing channels-last images.
        images = self._shown.images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)
        return self._pipeline(images, self._shown.labels[indices], rng)

    def _indices(self, step: int) -> torch.Tensor:
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._order_epoch:
            order = epoch_order(len(self._full), self._seed, epoch)
            self._order = torch.from_numpy(order).to(self._device)
            self._order_epoch = epoch
        return self._order[within * self._batch_size : (within + 1) * self._batch_size]

    def _show(self, side: int) -> None:
        if self._shown.images.shape[-1] != side:
            self._shown = resize_split(self._full, side)


def make_loader(
    options: AugmentOptions,
    split: Split,
    mean: Statistics,
    std: Statistics,
    batch_size: int,
    *,
    seed: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    resolution_at: Callable[[int], int] | None = None,
) -> Loader:
    """The loader for these options: on the device, except for the albumentations policy, which needs workers.

    Raises ConfigError when albumentations is asked for and not installed.
    """
    pipeline = Pipeline(options, mean, std)
    if options.augment == "albumentations":
        from wrn.data.albumentations_loader import AlbumentationsLoader

        return AlbumentationsLoader(
            split,
            batch_size,
            pipeline,
            seed=seed,
            device=device,
            rank=rank,
            world_size=world_size,
            num_workers=num_workers,
            resolution_at=resolution_at,
        )
    return DeviceLoader(
        split,
        batch_size,
        pipeline,
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
        resolution_at=resolution_at,
    )
