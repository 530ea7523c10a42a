"""Your own Albumentations pipeline, image by image in worker processes: slower than the policies on the device.

Workers apply it to uint8 images; crop, flip, normalisation, erasing and mixing follow on the device as with every
other policy (set crop_padding 0 and flip false if your pipeline does those).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wrn.data.augment.batch import Batch
from wrn.data.augment.pipeline import Pipeline
from wrn.data.dataset import Split
from wrn.data.order import epoch_order, share_of, steps_in_epoch
from wrn.data.random import BatchRandom, generator
from wrn.data.resize import resize_split
from wrn.data.workers import computed_ahead
from wrn.errors import ConfigError
from wrn.filesystem import is_file


def load_transform(file: Path | None) -> Any:
    """The pipeline serialised in `file` (`albumentations.save`), or for None a mild built-in one (geometry, colour).

    Raises ConfigError if Albumentations is not installed or the file is not one of its pipelines.
    """
    # On import, it would otherwise check the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError:
        raise ConfigError("augment: albumentations is not installed; pip install 'wrn-cifar[albumentations]'") from None
    if file is None:
        return albumentations.Compose(
            [
                albumentations.Affine(scale=(0.9, 1.1), rotate=(-15, 15), p=0.5),
                albumentations.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05, p=0.5),
            ]
        )
    if not is_file(file):
        raise ConfigError(f"albumentations_file: there is no file {file}; give one that albumentations.save wrote")
    try:
        transform = albumentations.load(file, data_format="json" if file.suffix == ".json" else "yaml")
        return transform if isinstance(transform, albumentations.Compose) else albumentations.Compose([transform])
    except Exception as error:  # whatever its reader raises, the file has to be fixed
        raise ConfigError(f"albumentations_file: {file} is not a serialised pipeline ({error})") from None


def check_transform(transform: Any, file: Path | None, image: np.ndarray) -> None:
    """Try the pipeline of `file` on one image, uint8 (H, W, 3).

    Raises ConfigError unless it returns an image of the same type and shape. An image that is already normalised, for
    example, would silently be normalised twice.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # a thread pool in this process would hang its forked workers
    try:
        result = transform(image=image)["image"]
    except Exception as error:  # whatever its operations raise, the file has to be fixed
        raise ConfigError(
            f"albumentations_file: {file} cannot be applied to an image of {_kind(image)} ({error})"
        ) from None
    finally:
        cv2.setNumThreads(threads)
    if not isinstance(result, np.ndarray) or (result.dtype, result.shape) != (image.dtype, image.shape):
        raise ConfigError(
            f"albumentations_file: {file} turns an image of {_kind(image)} into {_kind(result)}; remove what changes "
            "type or size (Normalize, ToFloat, ToTensorV2, Resize): images are normalised and resized afterwards"
        )


def _kind(image: Any) -> str:
    """As in: uint8 (32, 32, 3)."""
    return f"{image.dtype} {tuple(image.shape)}"


class _Steps:
    """Called with s, returns this process's share of the batch of step s: images after the pipeline, and labels."""

    def __init__(self, split: Split, batch_size: int, transform: Any, seed: int, rank: int, world_size: int) -> None:
        self._images = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = split.labels.numpy()
        self._batch_size = batch_size
        self._transform = transform
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self.steps_per_epoch = steps_in_epoch(len(split), batch_size)
        self._order = np.empty(0, dtype=np.int64)
        self._order_epoch = -1

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (N, H, W, 3) and int64 (N,)."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._order_epoch:
            self._order, self._order_epoch = epoch_order(len(self._images), self._seed, epoch), epoch
        indices = self._order[within * self._batch_size : (within + 1) * self._batch_size]
        rows = share_of(len(indices), self._rank, self._world_size)
        # One seed per image of the global batch, independent of the numbers of workers and processes.
        seeds = generator(self._seed, "albumentations", step).integers(2**31, size=len(indices))[rows]
        images = []
        for index, seed in zip(indices[rows], seeds, strict=True):
            self._transform.set_random_seed(int(seed))
            images.append(self._transform(image=self._images[index])["image"])
        side = self._images.shape[1]
        stacked = np.stack(images) if images else np.empty((0, side, side, 3), dtype=np.uint8)
        return stacked, self._labels[indices[rows]]


class AlbumentationsLoader:
    """The loader for `augment: albumentations`; see `DeviceLoader` for the arguments."""

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
        num_workers: int = 0,
        resolution_at: Callable[[int], int] | None = None,
    ) -> None:
        transform = load_transform(pipeline.options.albumentations_file)
        first = split.images[0].permute(1, 2, 0).contiguous().numpy()
        check_transform(transform, pipeline.options.albumentations_file, first)
        self._steps = _Steps(split, batch_size, transform, seed, rank, world_size)
        self._images = len(split)
        self._batch_size = batch_size
        self._pipeline = pipeline
        self._seed = seed
        self._device = device
        self._rank = rank
        self._world_size = world_size
        self._num_workers = num_workers
        self._resolution_at = resolution_at

    @property
    def steps_per_epoch(self) -> int:
        return self._steps.steps_per_epoch

    def batches(self, start: int, stop: int, waiting: Callable[[], None] = lambda: None) -> Iterator[Batch]:
        """The batches of steps start..stop-1. The workers end with the iterator, even if it is abandoned.

        Raises WorkerLost if one of them dies.
        """
        steps = range(start, stop)
        made: Iterator[tuple[np.ndarray, np.ndarray]]
        if self._num_workers:
            made = computed_ahead(self._steps, steps, self._num_workers, begin=_one_thread, waiting=waiting)
        else:
            made = map(self._steps, steps)
        for step, (images, labels) in zip(steps, made, strict=True):
            part = Split(self._to_device(images).permute(0, 3, 1, 2), self._to_device(labels))
            if self._resolution_at is not None:
                part = resize_split(part, self._resolution_at(step))
            everything = torch.arange(len(part), device=self._device)
            windows = self._pipeline.windows(part.images)
            batch = self._pipeline(windows, everything, part.labels, self._random(step))
            yield replace(batch, global_images=self._size_of(step))

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type != "cuda":
            return tensor.to(self._device)
        # From pinned memory the host need not wait for the GPU to finish earlier work.
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _random(self, step: int) -> BatchRandom:
        size = self._size_of(step)
        rows = share_of(size, self._rank, self._world_size)
        return BatchRandom(generator(self._seed, "augment", step), size, rows=rows, device=self._device)

    def _size_of(self, step: int) -> int:
        """Number of images in a step's batch over all processes."""
        return min(self._batch_size, self._images - step % self.steps_per_epoch * self._batch_size)


def _one_thread() -> None:
    """The workers are the parallelism."""
    import cv2

    cv2.setNumThreads(0)
