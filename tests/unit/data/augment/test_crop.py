from __future__ import annotations

import torch
import torch.nn.functional as F

from wrn.data.augment.crop import Windows
from wrn.data.random import BatchRandom, generator


def rng(size: int, step: int = 0) -> BatchRandom:
    return BatchRandom(generator(0, "test", step), size)


def crop_and_flip(images: torch.Tensor, padding: int, flip: bool, rng: BatchRandom) -> torch.Tensor:
    """A window of each image."""
    return Windows(images, padding, flip).take(torch.arange(len(images)), rng)


def windows(image: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """All crops of one padded image (3, H, W), row by row."""
    padded = F.pad(image[None].float(), (padding,) * 4, mode="reflect")[0].to(torch.uint8)
    side = image.shape[-1]
    offsets = range(2 * padding + 1)
    return [padded[:, y : y + side, x : x + side] for y in offsets for x in offsets]


def test_every_crop_is_one_of_81_and_all_are_about_equally_frequent() -> None:
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    known = {crop.numpy().tobytes(): index for index, crop in enumerate(windows(image, 4))}
    assert len(known) == 81
    crops = crop_and_flip(image.expand(8100, 3, 8, 8), 4, False, rng(8100))
    counts = torch.bincount(torch.tensor([known[c.contiguous().numpy().tobytes()] for c in crops]), minlength=81)
    assert counts.min() > 50
    assert counts.max() < 160


def test_flips_half_and_nothing_else_without_padding() -> None:
    images = torch.randint(0, 256, (4000, 3, 2, 3), dtype=torch.uint8)
    result = crop_and_flip(images, 0, True, rng(4000))
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 0.45 < mirrored.float().mean() < 0.55


def test_flip_and_crop_are_independent() -> None:
    image = torch.randint(0, 256, (3, 6, 6), dtype=torch.uint8)
    known = {c.numpy().tobytes() for source in (image, image.flip(-1)) for c in windows(source, 1)}
    crops = crop_and_flip(image.expand(600, 3, 6, 6), 1, True, rng(600))
    assert {c.contiguous().numpy().tobytes() for c in crops} == known


def test_layout_type_and_off() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    result = crop_and_flip(images, 2, True, rng(4))
    assert result.dtype is torch.uint8
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(crop_and_flip(images.contiguous(memory_format=torch.channels_last), 2, True, rng(4)), result)
    assert torch.equal(crop_and_flip(images, 0, False, rng(4)), images)


def test_taken_in_any_order_and_more_than_once() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 8, 8)
    index = torch.tensor([4, 0, 0, 3])
    for flip in (False, True):
        taken = Windows(images, 2, flip).take(index, rng(4))
        assert torch.equal(taken, images[index])


def test_none_taken() -> None:
    images = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    assert Windows(images, 2, True).take(torch.empty(0, dtype=torch.int64), rng(0)).shape == (0, 3, 8, 8)
