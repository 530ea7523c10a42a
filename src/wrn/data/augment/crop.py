"""Random crop and mirror: where a picture's contents lie must not matter. Batches of images (B, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

from wrn.data.random import BatchRandom


def crop_and_flip(images: Tensor, padding: int, flip: bool, rng: BatchRandom) -> Tensor:
    """Each image shifted by -padding..padding pixels both ways, and with `flip` mirrored with chance 1/2.

    The border is filled by reflection. The same as padding by reflection, cropping at random and mirroring, but
    whole rows are copied and never single pixels: that is why the result, like the images should be, is
    channels-last. padding must be below H and W.
    """
    if not padding and not flip:
        return images
    batch, channels, height, width = images.shape
    device = images.device
    shift = rng.integers(-padding, padding + 1, (2,))
    row = _reflected(torch.arange(height, device=device) + shift[:, :1], height)
    start = padding + shift[:, 1:]
    if flip:
        start = torch.where(rng.chance(0.5)[:, None], padding + width - 1 - shift[:, 1:], start)
    strips = _there_and_back(images, padding)
    length = strips.shape[1] // channels
    first_pixel = (torch.arange(batch, device=device)[:, None] * height + row) * length + start
    # Every window of `width` pixels, as a view that overlaps itself: picking windows is picking rows of it.
    count = max(0, batch * height * length - width + 1)
    windows = strips.as_strided((count, width * channels), (channels, 1))
    return windows.index_select(0, first_pixel.view(-1)).view(batch, height, width, channels).permute(0, 3, 1, 2)


def _there_and_back(images: Tensor, padding: int) -> Tensor:
    """Each row of pixels, then the same row mirrored, continued at both ends: (B * H, (2 W - 1 + 2 padding) * C).

    Reflecting a row for ever gives the row, its mirror image, the row, ...: a window of this strip is a crop of the
    padded row, or of the padded mirrored row.
    """
    batch, channels, height, width = images.shape
    row = images.permute(0, 2, 3, 1).reshape(batch * height, width * channels)
    mirrored = images.flip(-1).permute(0, 2, 3, 1).reshape(batch * height, width * channels)
    border, last = padding * channels, (width - 1) * channels
    ends = mirrored[:, last - border : last], row[:, channels : channels + border]
    return torch.cat([ends[0], row, mirrored[:, channels:], ends[1]], dim=1)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Positions of -size+1..2*size-2 back into 0..size-1; the border pixel itself is not repeated."""
    position = position.abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)
