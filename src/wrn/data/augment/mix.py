"""Mixing images in pairs: MixUp and CutMix, each image with numbers of its own.

The partner of image i is image i^1, its neighbour in the batch: the order of the images is random anyway, and a
neighbour is always within the part of the batch that one process has, whatever the number of processes. The last
image of an odd batch is its own partner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wrn.data.augment.batch import Batch
from wrn.data.augment.erase import inside_box
from wrn.data.random import BatchRandom


def partners(size: int, device: torch.device) -> Tensor:
    """int64 (size,): the position of each image's partner."""
    index = torch.arange(size, device=device)
    return torch.where((index ^ 1) < size, index ^ 1, index)


def mixup(batch: Batch, alpha: float, rng: BatchRandom) -> Batch:
    """Each image becomes w * image + (1 - w) * partner with w from Beta(alpha, alpha) (arXiv:1710.09412)."""
    partner = partners(batch.size, batch.images.device)
    weight = rng.beta(alpha)
    return Batch(_blend(batch.images, partner, weight), batch.labels, batch.labels[partner], weight)


def cutmix(batch: Batch, alpha: float, rng: BatchRandom) -> Batch:
    """A rectangle of each image comes from its partner (arXiv:1905.04899); the weight is the share of pixels kept.

    The rectangle has the image's aspect ratio and an area of 1 - w with w from Beta(alpha, alpha), around a random
    pixel, clipped at the border; the weight is that of the clipped rectangle.
    """
    partner = partners(batch.size, batch.images.device)
    pasted, weight = _cutmix_box(batch.images, alpha, rng)
    images = torch.where(pasted, batch.images[partner], batch.images)
    return Batch(images, batch.labels, batch.labels[partner], weight)


def mix(batch: Batch, mixup_alpha: float, cutmix_alpha: float, probability: float, rng: BatchRandom) -> Batch:
    """MixUp or CutMix as their alphas say; with both above 0 each image takes one of them at random.

    An image is left alone with chance 1 - probability.
    """
    if not probability or not (mixup_alpha or cutmix_alpha):
        return batch
    if mixup_alpha and not cutmix_alpha:
        mixed = mixup(batch, mixup_alpha, rng)
    elif cutmix_alpha and not mixup_alpha:
        mixed = cutmix(batch, cutmix_alpha, rng)
    else:
        blended, cut = mixup(batch, mixup_alpha, rng), cutmix(batch, cutmix_alpha, rng)
        mixed = _choose(rng.chance(0.5), blended, cut)
    if probability == 1:
        return mixed
    untouched = Batch(batch.images, batch.labels, mixed.other_labels, torch.ones_like(_weight(mixed)))
    return _choose(rng.chance(probability), mixed, untouched)


def _blend(images: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    share = weight.view(-1, 1, 1, 1).to(images.dtype)
    return torch.lerp(images[partner], images, share)


def _cutmix_box(images: Tensor, alpha: float, rng: BatchRandom) -> tuple[Tensor, Tensor]:
    """bool (B, 1, H, W) of the pixels to take from the partner, and the share of the others, float32 (B,)."""
    height, width = images.shape[-2:]
    side = (1 - rng.beta(alpha)).sqrt()
    tall, wide = (side * height).long(), (side * width).long()
    top = rng.integers(0, height) - tall // 2
    left = rng.integers(0, width) - wide // 2
    bottom, right = (top + tall).clamp(max=height), (left + wide).clamp(max=width)
    top, left = top.clamp(min=0), left.clamp(min=0)
    kept = 1 - ((bottom - top) * (right - left)).float() / (height * width)
    return inside_box(images, top, left, bottom, right), kept


def _choose(first: Tensor, one: Batch, other: Batch) -> Batch:
    """Of each image that of `one` where `first` is true, else that of `other`; both have the same label pairs."""
    images = torch.where(first.view(-1, 1, 1, 1), one.images, other.images)
    return Batch(images, one.labels, one.other_labels, torch.where(first, _weight(one), _weight(other)))


def _weight(batch: Batch) -> Tensor:
    assert batch.weight is not None
    return batch.weight
