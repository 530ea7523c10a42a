"""A split at a smaller resolution, made once per stage of progressive resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from wrn.data.dataset import Split

CHUNK = 5000
"""Images resized at a time: as float32 at 32 px they take 61 MB."""


def resize_split(split: Split, side: int) -> Split:
    """The same images at `side` x `side` pixels, bilinear with antialiasing, rounded to uint8."""
    if split.images.shape[-1] == side:
        return split
    parts = [
        F.interpolate(part.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        .contiguous(memory_format=torch.channels_last)
        for part in torch.split(split.images, CHUNK)
    ]
    return Split(torch.cat(parts), split.labels)
