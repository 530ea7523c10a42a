"""uint8 images to the network's input: the one normalisation that training, evaluation and prediction share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(image / 255 - mean) / std per channel: uint8 (B, 3, H, W) to float32 (B, 3, H, W), channels-last."""
    batch, channels, height, width = images.shape
    scale, shift = _row_of_pixels(tuple(mean), tuple(std), width, images.device)
    rows = images.permute(0, 2, 3, 1).reshape(-1, width * channels).to(torch.float32)
    torch.addcmul(shift, rows, scale, out=rows)  # one pass instead of two
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _row_of_pixels(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift for a whole row of pixels, as a vector of only three channels would be slow.

    Cached per device, so that no batch waits for the copy.
    """
    scale = torch.tensor([1 / (255 * s) for s in std]).repeat(width)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(width)
    return scale.to(device), shift.to(device)
