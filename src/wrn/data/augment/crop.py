"""Random crop and mirror: where a picture's contents lie must not matter. Batches of images (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

from wrn.data.random import BatchRandom


def crop_and_flip(images: Tensor, padding: int, flip: bool, rng: BatchRandom) -> Tensor:
    """Each image shifted by -padding..padding pixels both ways, and with `flip` mirrored with chance 1/2.

    The border is filled by reflection. The same as padding by reflection, cropping at random and mirroring, in one
    gather of whole pixels: that is why the result, like the images should be, is channels-last. padding must be
    below H and W.
    """
    if not padding and not flip:
        return images
    batch, channels, height, width = images.shape
    device = images.device
    shift = rng.integers(-padding, padding + 1, (2,))
    rows = _reflected(torch.arange(height, device=device) + shift[:, :1], height)
    columns = torch.arange(width, device=device).expand(batch, -1)
    if flip:
        columns = torch.where(rng.chance(0.5)[:, None], width - 1 - columns, columns)
    columns = _reflected(columns + shift[:, 1:], width)
    image = torch.arange(batch, device=device)[:, None] * height
    pixel = ((image + rows) * width)[:, :, None] + columns[:, None, :]
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    return pixels.index_select(0, pixel.view(-1)).view(batch, height, width, channels).permute(0, 3, 1, 2)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Positions of -size+1..2*size-2 back into 0..size-1; the border pixel itself is not repeated."""
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)
