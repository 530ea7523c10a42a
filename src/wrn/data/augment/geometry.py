"""Shear, translation and rotation of uint8 batches (B, C, H, W), one matrix per image.

Nearest-neighbour sampling with black outside, in the 16.16 fixed-point arithmetic of Pillow's affine transform, so
that the results equal Pillow's exactly. The matrices are computed on the host: they are small and need float64.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FIXED_POINT = 65536.0
"""The number 1 in 16.16 fixed point. Matrices fit into 32 bits for images with sides of up to 16,000 pixels."""


def shear_x(slope: np.ndarray, side: int) -> np.ndarray:
    """Source column = column + slope * row. All of these map (B,) to fixed-point matrices, int32 (B, 6)."""
    return _fixed(1, slope, 0, 0, 1, 0)


def shear_y(slope: np.ndarray, side: int) -> np.ndarray:
    """Source row = row + slope * column."""
    return _fixed(1, 0, 0, slope, 1, 0)


def translate_x(share: np.ndarray, side: int) -> np.ndarray:
    """Source column = column + share * side, in whole pixels."""
    return _fixed(1, 0, np.rint(share * side), 0, 1, 0)


def translate_y(share: np.ndarray, side: int) -> np.ndarray:
    """Source row = row + share * side, in whole pixels."""
    return _fixed(1, 0, 0, 0, 1, np.rint(share * side))


def rotate(degrees: np.ndarray, side: int) -> np.ndarray:
    """Counter-clockwise around the centre of the image."""
    angle = np.deg2rad(-degrees)
    # Pillow rounds the matrix to 15 decimals, so that right angles are exact.
    cos, sin = np.cos(angle).round(15), np.sin(angle).round(15)
    centre = side / 2
    return _fixed(cos, sin, centre - cos * centre - sin * centre, -sin, cos, centre + sin * centre - cos * centre)


def _fixed(*matrix: np.ndarray | float) -> np.ndarray:
    """Fixed-point matrices, int32 (B, 6), of x' = a x + b y + c, y' = d x + e y + f, with pixel centres at halves.

    c and f become the source position of the centre of pixel (0, 0).
    """
    a, b, c, d, e, f = np.broadcast_arrays(*matrix)
    exact = np.stack([a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5], axis=1)
    return np.floor(exact * FIXED_POINT + 0.5).astype(np.int32)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Sample each pixel from the source given by its image's matrix, int32 (B, 6); channels-last.

    Pixels from outside the source are 0: positions outside are clamped to a black border of one pixel.
    """
    batch, channels, height, width = images.shape
    a, b, c, d, e, f = (value.view(-1, 1, 1) for value in matrix.unbind(1))
    row = torch.arange(height, device=images.device, dtype=torch.int32).view(1, -1, 1)
    column = torch.arange(width, device=images.device, dtype=torch.int32).view(1, 1, -1)
    # Small sums first: only three operations are on full-size tensors.
    x = ((a * column + c) + b * row).bitwise_right_shift_(16).clamp_(-1, width)
    y = ((d * column + f) + e * row).bitwise_right_shift_(16).clamp_(-1, height)
    first = torch.arange(batch, device=images.device, dtype=torch.int32) * ((height + 2) * (width + 2)) + width + 3
    pixel = y.mul_(width + 2).add_(x).add_(first.view(-1, 1, 1))
    bordered = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).view(-1, channels)
    return bordered.index_select(0, pixel.view(-1)).view(batch, height, width, channels).permute(0, 3, 1, 2)
