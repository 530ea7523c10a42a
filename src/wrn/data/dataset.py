"""What every source of images delivers: a `Dataset` of two uint8 splits and the names of their classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wrn.strict_json import to_json

LEAST_STD = 1 / 255
"""Used as the standard deviation of a constant channel, to avoid dividing by 0."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    images: uint8 (N, 3, 32, 32), RGB.
    labels: int64 (N,), the index of the class.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Split:
        """The images at `index`, int64 (M,), in that order."""
        return Split(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set with its train and test splits.

    name: `cifar100`, `cifar10`, `folder` or `synthetic`: what was actually loaded, never `auto`.
    origin: one phrase for people: where it was found or how it was made.
    classes: the class names, by label.
    superclasses: the superclass names, by superclass index; may be empty.
    superclass_of: the superclass index of each class; may be empty.
    mean, std: per channel, of the training images scaled to 0..1.
    """

    name: str
    origin: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]
    superclass_of: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def identity(self) -> dict[str, Any]:
        """What distinguishes it from other data: `name`, numbers of images, and a digest of classes, labels and pixel
        statistics."""
        statistics = [round(value, 6) for value in (*self.mean, *self.std)]  # the last digits depend on the processor
        digest = hashlib.sha256(to_json([self.classes, statistics]).encode())
        for split in (self.train, self.test):
            digest.update(split.labels.cpu().numpy().tobytes())
        return {"name": self.name, "train": len(self.train), "test": len(self.test), "digest": digest.hexdigest()[:16]}

    def with_splits(self, train: Split, test: Split) -> Dataset:
        """The same data set with other images, for example a subset."""
        return replace(self, train=train, test=test)


def channel_statistics(images: Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel of uint8 (N, 3, H, W) images scaled to 0..1.

    Computed from a 256-bin histogram of each channel: exact, and without a float copy of the split.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(3):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).double()
        share = counts / counts.sum()
        mean = (share * levels).sum()
        means.append(mean.item())
        stds.append(max((share * (levels - mean) ** 2).sum().sqrt().item(), LEAST_STD))
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
