"""Mixing images in pairs: MixUp and CutMix, with separate random numbers for each image.

The partner of image i is image i^1, its neighbour in the batch: the order of images is random anyway, and neighbours
are always in the same process's part of the batch, whatever the number of processes. The last image of an odd batch is
its own partner.

Both compute share * own + (1 - share) * partner for each value; in CutMix the share is 0 or 1. `lerp_` is exact at both
ends, so values that are not mixed stay unchanged, to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wrn.data.augment.batch import Batch
from wrn.data.augment.erase import images_of, outside_box, rows_of
from wrn.data.random import BatchRandom


def partners(size: int, device: torch.device) -> Tensor:
    """int64 (size,): the position of each image's partner."""
    index = torch.arange(size, device=device)
    return torch.where((index ^ 1) < size, index ^ 1, index)


def mix(batch: Batch, mixup_alpha: float, cutmix_alpha: float, probability: float, rng: BatchRandom) -> Batch:
    """Apply MixUp or CutMix, whichever has an alpha above 0; if both do, each image randomly gets one of them.

    MixUp (arXiv:1710.09412): an image becomes w * image + (1 - w) * partner with w from Beta(alpha, alpha).
    CutMix (arXiv:1905.04899): a rectangle comes from the partner. It has the image's aspect ratio and an area of 1 - w
    with w from Beta(alpha, alpha), is centred on a random pixel, and is clipped at the border; the weight is the share
    of pixels kept.
    probability: of an image being mixed at all.
    """
    if not probability or not (mixup_alpha or cutmix_alpha):
        return batch
    if not cutmix_alpha:
        weight = rng.beta(mixup_alpha)
        share = weight.view(-1, 1, 1)
    elif not mixup_alpha:
        share, weight = _cutmix_shares(batch.images, cutmix_alpha, rng)
    else:
        blended = rng.beta(mixup_alpha)
        share, weight = _cutmix_shares(batch.images, cutmix_alpha, rng)
        first = rng.chance(0.5).float()
        share = torch.lerp(share, blended.view(-1, 1, 1), first.view(-1, 1, 1))
        weight = torch.lerp(weight, blended, first)
    if probability < 1:
        alone = (~rng.chance(probability)).float()
        share = torch.maximum(share, alone.view(-1, 1, 1))
        weight = torch.maximum(weight, alone)
    return _mixed(batch, share, weight)


def _mixed(batch: Batch, share: Tensor, weight: Tensor) -> Batch:
    """Mix the batch with its partners. share: of each image's own values, (B, 1, 1) or (B, H, W * C); weight: (B,)."""
    partner = partners(batch.size, batch.images.device)
    rows = rows_of(batch.images)
    mixed = rows.index_select(0, partner).lerp_(rows, share)
    return Batch(images_of(mixed, batch.images), batch.labels, batch.labels[partner], weight)


def _cutmix_shares(images: Tensor, alpha: float, rng: BatchRandom) -> tuple[Tensor, Tensor]:
    """float32 (B, H, W * C), 0 for pixels from the partner, else 1; and the share of ones, (B,)."""
    height, width = images.shape[-2:]
    side = (1 - rng.beta(alpha)).sqrt()
    tall, wide = (side * height).long(), (side * width).long()
    top = rng.integers(0, height) - tall // 2
    left = rng.integers(0, width) - wide // 2
    bottom, right = (top + tall).clamp(max=height), (left + wide).clamp(max=width)
    top, left = top.clamp(min=0), left.clamp(min=0)
    kept = 1 - ((bottom - top) * (right - left)).float() / (height * width)
    return outside_box(images, top, left, bottom, right), kept
