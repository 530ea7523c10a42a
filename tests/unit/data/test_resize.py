from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from wrn.data.dataset import Split
from wrn.data.resize import CHUNK, resize_split


def smooth(count: int) -> Split:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=draws)
    return Split(images, torch.arange(count))


def test_the_same_side_is_the_same_split() -> None:
    split = smooth(3)
    assert resize_split(split, 32) is split


@pytest.mark.parametrize("side", [16, 20, 24])
def test_agrees_with_pillow_within_one_grey_level(side: int) -> None:
    split = smooth(20)
    ours = resize_split(split, side)
    assert ours.images.is_contiguous(memory_format=torch.channels_last)
    for image, small in zip(split.images, ours.images, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BILINEAR)
        difference = np.asarray(picture).astype(int) - small.permute(1, 2, 0).numpy()
        assert abs(difference).max() <= 1


def test_labels_stay_and_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    split = smooth(25)
    whole = resize_split(split, 16)
    assert CHUNK > 25
    monkeypatch.setattr("wrn.data.resize.CHUNK", 10)
    parts = resize_split(split, 16)
    assert torch.equal(whole.images, parts.images)
    assert torch.equal(parts.labels, split.labels)
