"""Blanking a part of each image, so that the network does not rely on a single detail. Normalised float images.

Results are channels-last. Masks are float, with one entry per value of a row: a boolean mask per pixel, broadcast over
the channels, is ten times slower on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wrn.data.random import BatchRandom

ERASED_AREA = (0.02, 0.4)
ASPECT_RATIO = (0.3, 1 / 0.3)
"""RandomErasing's ranges, as published: share of the image, and height by width (torchvision erases up to 0.33)."""
NOISE_IMAGES = 16
"""RandomErasing draws noise for this many images per batch, of which each image uses a random stretch."""


def cutout_(images: Tensor, size: int, rng: BatchRandom) -> Tensor:
    """Set a square with side `size` around a random pixel to 0, the mean colour (arXiv:1708.04552).

    As published, the centre may be any pixel, so the square may extend beyond the border and be smaller inside. In
    place, for channels-last images: several times faster on a CPU than a copy.
    """
    batch, channels, height, width = images.shape
    reach = torch.arange(size, device=images.device) - size // 2
    # Pixels beyond the border are clamped to border pixels, which are in the square too.
    row = (rng.integers(0, height)[:, None] + reach).clamp(0, height - 1)
    column = (rng.integers(0, width)[:, None] + reach).clamp(0, width - 1)
    image = torch.arange(batch, device=images.device)[:, None] * height
    pixel = ((image + row) * width)[:, :, None] + column[:, None, :]
    images.permute(0, 2, 3, 1).view(-1, channels).index_fill_(0, pixel.view(-1), 0.0)
    return images


def random_erasing(images: Tensor, probability: float, rng: BatchRandom) -> Tensor:
    """With the given probability, replace a rectangle inside the image by noise (arXiv:1708.04896, RE-R).

    Area and aspect ratio as published, the latter log-uniform. The paper draws again until the rectangle fits; here it
    is clipped to the image's side, which differs only for extreme draws. The noise is standard normal, so it has the
    statistics of normalised images.
    """
    batch, channels, height, width = images.shape
    area = rng.uniform(*ERASED_AREA) * (height * width)
    ratio = rng.uniform(math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1])).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height).long()
    wide = (area / ratio).sqrt().round().clamp(1, width).long()
    tall = torch.where(rng.chance(probability), tall, 0)
    top = (rng.uniform() * (height - tall + 1)).long()
    left = (rng.uniform() * (width - wide + 1)).long()
    values = channels * height * width
    # Separate noise for each image would take 3072 draws for the 90 pixels that are erased on average.
    noise = rng.shared_normal(NOISE_IMAGES * values)
    stretches = noise.as_strided((noise.numel() - values + 1, values), (1, 1))
    noise = stretches.index_select(0, rng.integers(0, len(stretches)))
    kept = outside_box(images, top, left, top + tall, left + wide)
    return images_of(noise.view(batch, height, width * channels).lerp_(rows_of(images), kept), images)


def outside_box(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """float32 (B, H, W * C), the layout of `rows_of`: 0 in the box of each image, 1 outside.

    The box has rows top..bottom-1 and columns left..right-1, int64 (B,) each, and may extend beyond the border.
    """
    channels, height, width = images.shape[1:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width * channels, device=images.device) // channels
    outside_rows = ((row < top[:, None]) | (row >= bottom[:, None])).float()
    outside_columns = ((column < left[:, None]) | (column >= right[:, None])).float()
    return torch.maximum(outside_rows[:, :, None], outside_columns[:, None, :])


def rows_of(images: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W * C): rows of values in channels-last memory order."""
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 3, 1).reshape(batch, height, width * channels)


def images_of(rows: Tensor, like: Tensor) -> Tensor:
    """Undoes `rows_of(like)`: (B, C, H, W), channels-last."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
