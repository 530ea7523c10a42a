from __future__ import annotations

import pytest
import torch

from wrn.data.augment.erase import cutout_, random_erasing
from wrn.data.random import BatchRandom, generator


def rng(size: int) -> BatchRandom:
    return BatchRandom(generator(0, "test"), size)


def test_cutout_blanks_one_square_that_may_leave_the_image() -> None:
    images = torch.ones(3000, 16, 16, 3).permute(0, 3, 1, 2)
    blank = cutout_(images, 6, rng(3000)) == 0
    assert torch.equal(blank[:, 0], blank[:, 2])
    areas = blank[:, 0].flatten(1).sum(1)
    assert areas.max() == 36
    assert areas.min() == 9  # a corner: a quarter of the square
    heights = blank[:, 0].any(2).sum(1)
    widths = blank[:, 0].any(1).sum(1)
    assert torch.equal(heights * widths, areas)
    # A centre is 3 or more from the left and 2 or more from the right border in 11 of 16 columns.
    assert (areas == 36).float().mean().item() == pytest.approx((11 / 16) ** 2, abs=0.04)


def test_cutout_covers_every_pixel_and_touches_nothing_else() -> None:
    images = (torch.randn(2000, 8, 8, 3) + 10).permute(0, 3, 1, 2)
    result = cutout_(images.clone(), 3, rng(2000))
    blank = result == 0
    assert torch.equal(result[~blank], images[~blank])
    assert bool(blank.any(0).all())


def test_random_erasing_has_its_probability_and_area() -> None:
    images = torch.full((4000, 3, 32, 32), 7.0)
    erased = (random_erasing(images, 0.25, rng(4000)) != 7.0).all(1)
    hit = erased.flatten(1).any(1)
    assert hit.float().mean().item() == pytest.approx(0.25, abs=0.03)
    share = erased[hit].flatten(1).float().mean(1)
    assert share.min() > 0.015
    assert 0.38 < share.max() < 0.43  # the paper's 0.4, rounded to whole pixels
    boxes = erased[hit].any(2).sum(1) * erased[hit].any(1).sum(1)
    assert torch.equal(boxes, erased[hit].flatten(1).sum(1))
    noise = random_erasing(images, 1.0, rng(4000))
    noise = noise[noise != 7.0]
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_random_erasing_draws_shapes_as_published() -> None:
    """From 0.3 to 1 / 0.3, as many tall as wide; any pixel may be hit."""
    images = torch.full((4000, 3, 32, 32), 7.0)
    erased = (random_erasing(images, 1.0, rng(4000)) != 7.0).all(1)
    ratio = erased.any(2).sum(1) / erased.any(1).sum(1)
    assert ratio.quantile(0.05) < 0.5
    assert ratio.quantile(0.95) > 2
    assert 0.45 < (ratio > 1).float().mean() + (ratio == 1).float().mean() / 2 < 0.55
    assert bool(erased.any(0).all())


def test_random_erasing_has_different_noise_for_each_image() -> None:
    noise = random_erasing(torch.zeros(64, 3, 16, 16), 1.0, rng(64))
    both = (noise[:-1] != 0) & (noise[1:] != 0)
    assert bool(both.any())
    assert not bool((noise[:-1] == noise[1:])[both].any())
