"""Batches from a split that is kept on the device: gathered, augmented and normalised there, a whole batch at a time.

The batch of step s is a pure function of (seed, s), so resuming in the middle of an epoch needs no saved state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import torch

from wrn.config.fit import smallest_batch, too_small
from wrn.config.schema import AugmentSection
from wrn.data.augment.batch import Batch
from wrn.data.augment.crop import Windows
from wrn.data.augment.pipeline import Pipeline
from wrn.data.dataset import Split
from wrn.data.order import epoch_order, share_of, steps_in_epoch
from wrn.data.random import BatchRandom, generator
from wrn.data.resize import resize_split
from wrn.errors import ConfigError

Statistics = tuple[float, float, float]


class Loader(Protocol):
    """Where training batches come from."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps per pass over all images; the last batch of an epoch may be smaller."""

    def batches(self, start: int, stop: int, waiting: Callable[[], None] = lambda: None) -> Iterator[Batch]:
        """The batches of steps start..stop-1, counted over the whole run.

        waiting: called a few times a second while a batch is awaited from worker processes; what it raises ends the
            iterator.
        """


class DeviceLoader:
    """The loader without worker processes.

    split: moved to `device` once, laid out as `Windows` (7 kB per 32 px image, including mirror images).
    batch_size: images per step over all processes.
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
        self._split = split
        self._labels = split.labels.to(device)
        self._windows: Windows | None = None
        self._side = 0
        self._batch_size = batch_size
        self._pipeline = pipeline
        self._seed = seed
        self._device = device
        self._rank = rank
        self._world_size = world_size
        self._resolution_at = resolution_at
        self._order = torch.empty(0, dtype=torch.int64)
        self._order_epoch = -1
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    @property
    def steps_per_epoch(self) -> int:
        return steps_in_epoch(len(self._split), self._batch_size)

    def batches(self, start: int, stop: int, waiting: Callable[[], None] = lambda: None) -> Iterator[Batch]:
        made = (self.batch(step) for step in range(start, stop))
        return made if self._stream is None else _made_ahead(made, self._stream)

    def batch(self, step: int) -> Batch:
        """This process's share of the batch at step `step`."""
        windows = self._windows_of(self._resolution_at(step) if self._resolution_at else self._split.images.shape[-1])
        indices = self._indices(step)
        size = len(indices)
        rows = share_of(size, self._rank, self._world_size)
        rng = BatchRandom(generator(self._seed, "augment", step), size, rows=rows, device=self._device)
        indices = indices[rows]
        return replace(self._pipeline(windows, indices, self._labels[indices], rng), global_images=size)

    def _indices(self, step: int) -> torch.Tensor:
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._order_epoch:
            order = epoch_order(len(self._split), self._seed, epoch)
            self._order = torch.from_numpy(order).to(self._device)
            self._order_epoch = epoch
        return self._order[within * self._batch_size : (within + 1) * self._batch_size]

    def _windows_of(self, side: int) -> Windows:
        """The split at this resolution, rebuilt when it changes."""
        if self._windows is None or self._side != side:
            self._windows = None  # free its memory before the next is built
            resized = resize_split(self._split.to(self._device), side)
            self._windows, self._side = self._pipeline.windows(resized.images), side
        return self._windows


def _made_ahead(batches: Iterator[Batch], stream: torch.cuda.Stream) -> Iterator[Batch]:
    """The same batches, each prepared on `stream` before the step on the previous one, so that they overlap on a GPU.

    One stream for the lifetime of a loader, so that what it keeps from batch to batch stays in order.
    """
    user = torch.cuda.current_stream(stream.device)
    stream.wait_stream(user)
    with torch.cuda.stream(stream):
        following = next(batches, None)
    while following is not None:
        batch = following
        user.wait_stream(stream)
        for tensor in batch.tensors:
            tensor.record_stream(user)  # do not reuse its memory before the step has finished with it
        with torch.cuda.stream(stream):
            following = next(batches, None)
        yield batch


def make_loader(
    options: AugmentSection,
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

    Raises ConfigError if albumentations is requested but not installed, or if a batch is too small to be shared.
    """
    if too_small(len(split), batch_size, world_size):
        smallest = smallest_batch(len(split), batch_size)
        raise ConfigError(
            f"batch_size: {len(split)} images in batches of {batch_size} leave a last batch of {smallest}, too few for "
            f"{world_size} processes (two images each); give another --batch-size or fewer processes"
        )
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
