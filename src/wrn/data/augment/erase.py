"""Blanking a part of each image, so that the network does not rest on a single detail. Normalised float images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wrn.data.random import BatchRandom

ERASED_AREA = (0.02, 0.33)
ASPECT_RATIO = (0.3, 1 / 0.3)
"""RandomErasing's ranges, as published."""


def cutout(images: Tensor, size: int, rng: BatchRandom) -> Tensor:
    """A square of `size` pixels around a random pixel becomes 0, which is the mean colour (arXiv:1708.04552).

    As published, the centre lies anywhere, so the square may reach over the border and be smaller inside.
    """
    height, width = images.shape[-2:]
    top = rng.integers(0, height) - size // 2
    left = rng.integers(0, width) - size // 2
    # A product is several times faster than masked_fill, and normalised images are finite.
    return images * ~inside_box(images, top, left, top + size, left + size)


def random_erasing(images: Tensor, probability: float, rng: BatchRandom) -> Tensor:
    """With the given probability, a rectangle inside the image becomes noise (arXiv:1708.04896, RE-R).

    Area and aspect ratio as published, the latter uniform in its logarithm. Where the paper draws again until the
    rectangle fits, this one is clipped to the image's side: the same for all but extreme draws. The noise is
    standard normal, which on normalised images has the statistics of the data.
    """
    height, width = images.shape[-2:]
    area = rng.uniform(*ERASED_AREA) * (height * width)
    ratio = rng.uniform(math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1])).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height).long()
    wide = (area / ratio).sqrt().round().clamp(1, width).long()
    top = (rng.uniform() * (height - tall + 1)).long()
    left = (rng.uniform() * (width - wide + 1)).long()
    erased = inside_box(images, top, left, top + tall, left + wide) & rng.chance(probability).view(-1, 1, 1, 1)
    noise = rng.normal(images.shape[1:])
    return torch.where(erased, noise.to(images.dtype), images)


def inside_box(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """bool (B, 1, H, W): the pixels of each image in rows top..bottom-1 and columns left..right-1, int64 (B,) each."""
    height, width = images.shape[-2:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    rows = (row >= top[:, None]) & (row < bottom[:, None])
    columns = (column >= left[:, None]) & (column < right[:, None])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
