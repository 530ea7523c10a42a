"""Shear, translation and rotation of uint8 batches (B, C, H, W), one magnitude (B,) per image.

Nearest-neighbour sampling with black outside, in the 16.16 fixed-point arithmetic of Pillow's affine transform, so
that the results are Pillow's to the pixel. Results are channels-last.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIXED_POINT = 65536.0


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Source column = column + slope * row."""
    one, zero = torch.ones_like(slope), torch.zeros_like(slope)
    return affine(images, torch.stack([one, slope, zero, zero, one, zero], dim=1))


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Source row = row + slope * column."""
    one, zero = torch.ones_like(slope), torch.zeros_like(slope)
    return affine(images, torch.stack([one, zero, zero, slope, one, zero], dim=1))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Source column = column + pixels."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return affine(images, torch.stack([one, zero, pixels, zero, one, zero], dim=1))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Source row = row + pixels."""
    one, zero = torch.ones_like(pixels), torch.zeros_like(pixels)
    return affine(images, torch.stack([one, zero, zero, zero, one, pixels], dim=1))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise around the centre of the image."""
    height, width = images.shape[-2:]
    angle = torch.deg2rad(-degrees.double())
    # Pillow rounds the matrix to 15 decimals, so that right angles are exact.
    cos, sin = torch.cos(angle).round(decimals=15), torch.sin(angle).round(decimals=15)
    x, y = width / 2, height / 2
    offset_x, offset_y = x - cos * x - sin * y, y + sin * x - cos * y
    return affine(images, torch.stack([cos, sin, offset_x, -sin, cos, offset_y], dim=1))


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel (x, y) from the source pixel (a x + b y + c, d x + e y + f), pixel centres being at halves.

    matrix: (B, 6), a to f for each image. Pixels from outside the source are 0.
    """
    batch, channels, height, width = images.shape
    a, b, c, d, e, f = matrix.double().unbind(1)
    row = torch.arange(height, device=images.device).view(1, -1, 1)
    column = torch.arange(width, device=images.device).view(1, 1, -1)

    def source(across: Tensor, down: Tensor, offset: Tensor) -> Tensor:
        start = _fixed(offset + across * 0.5 + down * 0.5)
        return (start + _fixed(across) * column + _fixed(down) * row) >> 16

    x, y = source(a, b, c), source(d, e, f)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    image = torch.arange(batch, device=images.device).view(-1, 1, 1)
    pixel = ((image * height + y) * width + x).where(inside, 0)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, pixel.view(-1))
    pixels = pixels * inside.view(-1, 1)
    return pixels.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _fixed(values: Tensor) -> Tensor:
    """float64 (B,) to 16.16 fixed point, int64 (B, 1, 1)."""
    return (values * FIXED_POINT + 0.5).floor().long().view(-1, 1, 1)
