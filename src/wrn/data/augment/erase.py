"""Blanking a part of each image, so that the network does not rest on a single detail. Normalised float images.

Results are channels-last. Masks are float and as long as the rows of values: a mask of truth values per pixel, spread
over the channels, is ten times slower on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wrn.data.random import BatchRandom

ERASED_AREA = (0.02, 0.4)
ASPECT_RATIO = (0.3, 1 / 0.3)
"""RandomErasing's ranges, as published: shares of the image, and height by width (torchvision erases up to 0.33)."""
NOISE_IMAGES = 16
"""RandomErasing draws the noise of so many images per batch; each image takes its own stretch of it."""


def cutout_(images: Tensor, size: int, rng: BatchRandom) -> Tensor:
    """A square of `size` pixels around a random pixel becomes 0, which is the mean colour (arXiv:1708.04552).

    As published, the centre lies anywhere, so the square may reach over the border and be smaller inside. In place,
    for channels-last images: that is several times faster on a CPU than a copy.
    """
    batch, channels, height, width = images.shape
    reach = torch.arange(size, device=images.device) - size // 2
    # What would lie beyond the border falls on the border's own pixel, which is in the square too.
    row = (rng.integers(0, height)[:, None] + reach).clamp(0, height - 1)
    column = (rng.integers(0, width)[:, None] + reach).clamp(0, width - 1)
    image = torch.arange(batch, device=images.device)[:, None] * height
    pixel = ((image + row) * width)[:, :, None] + column[:, None, :]
    images.permute(0, 2, 3, 1).view(-1, channels).index_fill_(0, pixel.view(-1), 0.0)
    return images


def random_erasing(images: Tensor, probability: float, rng: BatchRandom) -> Tensor:
    """With the given probability, a rectangle inside the image becomes noise (arXiv:1708.04896, RE-R).

    Area and aspect ratio as published, the latter uniform in its logarithm. Where the paper draws again until the
    rectangle fits, this one is clipped to the image's side: the same for all but extreme draws. The noise is
    standard normal, which on normalised images has the statistics of the data.
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
    # Noise of its own for each image would be 3072 draws for the 90 pixels that are erased on average.
    noise = rng.shared_normal(NOISE_IMAGES * values)
    stretches = noise.as_strided((noise.numel() - values + 1, values), (1, 1))
    noise = stretches.index_select(0, rng.integers(0, len(stretches)))
    kept = outside_box(images, top, left, top + tall, left + wide)
    return images_of(noise.view(batch, height, width * channels).lerp_(rows_of(images), kept), images)


def outside_box(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """float32 (B, H, W * C), the layout of `rows_of`: 0 in the box of each image, 1 outside.

    The box has rows top..bottom-1 and columns left..right-1, int64 (B,) each, and may reach over the border.
    """
    channels, height, width = images.shape[1:]
    row = torch.arange(height, device=images.device)
    column = torch.arange(width * channels, device=images.device) // channels
    outside_rows = ((row < top[:, None]) | (row >= bottom[:, None])).float()
    outside_columns = ((column < left[:, None]) | (column >= right[:, None])).float()
    return torch.maximum(outside_rows[:, :, None], outside_columns[:, None, :])


def rows_of(images: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W * C): the rows of values as they lie in memory, channels-last."""
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 3, 1).reshape(batch, height, width * channels)


def images_of(rows: Tensor, like: Tensor) -> Tensor:
    """Undoes `rows_of(like)`: (B, C, H, W), channels-last."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
