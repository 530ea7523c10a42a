"""Splits the training images by class: a held-out validation part, or a small subset for quick trials."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wrn.config.fit import held_out
from wrn.data.dataset import Split
from wrn.data.random import generator
from wrn.errors import DataError


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Training and validation parts: `fraction` of each class (rounded) is held out.

    Raises DataError if a part would be empty.
    """
    keep, held = [], []
    classes = _by_class(split.labels, seed, "validation")
    for index, count in zip(classes, held_out(fraction, list(map(len, classes))), strict=True):
        held.append(index[:count])
        keep.append(index[count:])
    training, validation = _in_order(keep), _in_order(held)
    if not len(training) or not len(validation):
        raise DataError(
            f"val_fraction {fraction:g} leaves {len(training)} images to train on and {len(validation)} to validate "
            "on; choose another fraction"
        )
    return split.take(training), split.take(validation)


def subset(split: Split, images: int, seed: int) -> Split:
    """`images` images, balanced over the classes as far as possible. Raises DataError if there are fewer."""
    if images > len(split):
        raise DataError(f"train_images {images} is more than the {len(split)} available; lower it, or give 0 for all")
    rounds: list[tuple[int, int]] = []
    for index in _by_class(split.labels, seed, "subset"):
        rounds += enumerate(index.tolist())
    chosen = sorted(rounds)[:images]
    return split.take(_in_order([np.array([position for _, position in chosen])]))


def class_sizes(labels: Tensor) -> list[int]:
    """The number of images of each class up to the last that has any."""
    return np.bincount(labels.cpu().numpy()).tolist()


def _by_class(labels: Tensor, seed: int, purpose: str) -> list[np.ndarray]:
    """For each class, the positions of its images in a random order."""
    values = labels.cpu().numpy()
    return [
        generator(seed, purpose, label).permutation(np.flatnonzero(values == label))
        for label in range(int(values.max(initial=-1)) + 1)
    ]


def _in_order(parts: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.sort(np.concatenate(parts)).astype(np.int64))
