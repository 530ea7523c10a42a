"""Operations on the colours of uint8 batches (B, 3, H, W), one magnitude (B,) per image, as Pillow defines them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13
"""Pillow's SMOOTH kernel, which its sharpness is made of."""


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """0 is black, 1 the image itself."""
    return _blend(torch.zeros_like(images), images, factor)


def colour(images: Tensor, factor: Tensor) -> Tensor:
    """0 is grey, 1 the image itself."""
    return _blend(luma(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """0 is the mean grey of the image, 1 the image itself."""
    mean = (luma(images).double().mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean, images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """0 is smoothed, 1 the image itself; the outermost pixels stay as they are."""
    channels = images.shape[1]
    kernel = SMOOTH.to(images.device).expand(channels, 1, 3, 3)
    smooth = images.clone()
    inner = F.conv2d(images.float(), kernel, groups=channels)
    smooth[:, :, 1:-1, 1:-1] = (inner + 0.5).clamp(0, 255).to(torch.uint8)
    return _blend(smooth, images, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (int64, 0 to 8) of each channel."""
    kept = (256 - (1 << (8 - bits))).to(torch.uint8)
    return images & kept.view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values that are not below the threshold (0 to 256)."""
    return torch.where(images < threshold.view(-1, 1, 1, 1), images, 255 - images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to the full range; a channel of one value stays."""
    low = images.amin(dim=(2, 3), keepdim=True).double()
    high = images.amax(dim=(2, 3), keepdim=True).double()
    flat = high <= low
    scale = torch.where(flat, 1.0, 255 / (high - low).clamp(min=1))
    offset = torch.where(flat, 0.0, -low * scale)
    # In double precision, as Pillow computes its table: a product just below a whole number is cut, not rounded.
    return (images * scale + offset).clamp(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Make the histogram of each channel as flat as it can be."""
    batch, channels, height, width = images.shape
    rows = batch * channels
    values = images.reshape(rows, height * width).long()
    bins = values + 256 * torch.arange(rows, device=images.device).view(-1, 1)
    counts = torch.bincount(bins.flatten(), minlength=256 * rows).view(rows, 256)
    last = counts.gather(1, values.amax(dim=1, keepdim=True))
    step = (height * width - last) // 255
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(1, values).to(torch.uint8).reshape(images.shape)


def luma(images: Tensor) -> Tensor:
    """Grey values, uint8 (B, 1, H, W), by the weights of ITU-R 601-2 in Pillow's integers."""
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8).unsqueeze(1)


def _blend(other: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """other + factor * (images - other), cut to whole numbers within 0..255."""
    other = other.float()
    blended = other + factor.float().view(-1, 1, 1, 1) * (images.float() - other)
    return blended.clamp(0, 255).to(torch.uint8)
