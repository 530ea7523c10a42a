"""Operations on the colours of uint8 batches (B, 3, H, W), one parameter (B,) per image, as Pillow defines them.

Results are channels-last. Arithmetic is in float32 where that is exact, as vector units are fastest with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (19595.0, 38470.0, 7471.0)
"""Pillow's ITU-R 601-2 weights, times 65536: their products with bytes add up exactly in float32."""


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """0 is black, 1 the image itself."""
    return _whole(images.float().mul_(_per_image(factor)))


def colour(images: Tensor, factor: Tensor) -> Tensor:
    """0 is grey, 1 the image itself."""
    return _blend(luma(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """0 is the mean grey of the image, 1 the image itself."""
    mean = (luma(images).mean(dim=(1, 2, 3), keepdim=True, dtype=_double(images)) + 0.5).floor()
    return _blend(mean.float(), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """0 is smoothed, 1 the image itself; the border pixels stay unchanged.

    Smoothing uses Pillow's kernel: 1 for the neighbours and 5 for the pixel itself, over 13.
    """
    smooth = images.float()
    rows = smooth[:, :, :-2] + smooth[:, :, 1:-1] + smooth[:, :, 2:]
    squares = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.copy_(squares.add_(inner, alpha=4).mul_(1 / 13).add_(0.5).floor_())
    return _blend(smooth, images, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (0 to 8) of each channel."""
    kept = (256 - (1 << (8 - bits.long()))).to(torch.uint8)
    return images & _per_image(kept)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the threshold (0 to 256)."""
    return torch.where(images < _per_image(threshold), images, 255 - images)


def autocontrast(images: Tensor, _: Tensor | None = None) -> Tensor:
    """Stretch each channel to the full range; a constant channel stays unchanged."""
    values = _planes(images)
    low = values.amin(dim=2, keepdim=True).to(_double(images))
    high = values.amax(dim=2, keepdim=True).to(_double(images))
    flat = high <= low
    scale = torch.where(flat, 1.0, 255 / (high - low).clamp(min=1))
    offset = torch.where(flat, 0.0, -low * scale)
    # In double precision, as in Pillow's table: a product just below an integer is truncated, not rounded.
    return _pixels((values * scale).add_(offset).clamp_(0, 255).to(torch.uint8), images)


def equalize(images: Tensor, _: Tensor | None = None) -> Tensor:
    """Make the histogram of each channel as flat as possible."""
    planes = _planes(images)
    rows = planes.shape[0] * planes.shape[1]
    values = planes.view(rows, -1).long()
    # Not bincount: on a GPU it waits until the largest value has reached the host.
    one = torch.ones((), dtype=torch.int64, device=images.device)
    counts = torch.zeros(rows, 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, values, one.expand_as(values))
    last = counts.gather(1, values.amax(dim=1, keepdim=True))
    step = (values.shape[1] - last) // 255
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device)).to(torch.uint8)
    return _pixels(table.gather(1, values).view_as(planes), images)


def luma(images: Tensor) -> Tensor:
    """Grey values with ITU-R 601-2 weights, rounded: float32 (B, 1, H, W).

    Three multiplications instead of a matrix product, which a GPU would compute in TF32, inexactly.
    """
    red, green, blue = LUMA
    values = images.float()
    sums = (values[:, :1] * red).add_(values[:, 1:2], alpha=green).add_(values[:, 2:], alpha=blue)
    return sums.add_(32768.0).mul_(1 / 65536).floor_()


def _blend(other: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """other + factor * (images - other), truncated to integers within 0..255."""
    return _whole(images.float().sub_(other).mul_(_per_image(factor)).add_(other))


def _whole(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).to(torch.uint8)


def _double(images: Tensor) -> torch.dtype:
    """float64, except on Apple's MPS, which lacks it: there a value may differ from Pillow's by one."""
    return torch.float32 if images.device.type == "mps" else torch.float64


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _planes(images: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C, H * W), each channel contiguous."""
    return images.contiguous().flatten(2)


def _pixels(planes: Tensor, like: Tensor) -> Tensor:
    """Undoes `_planes(like)`, channels-last."""
    return planes.view(like.shape).contiguous(memory_format=torch.channels_last)
