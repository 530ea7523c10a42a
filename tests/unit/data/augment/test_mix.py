from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wrn.data.augment.batch import Batch
from wrn.data.augment.mix import mix, partners
from wrn.data.random import BatchRandom, generator


def rng(size: int, step: int = 0) -> BatchRandom:
    return BatchRandom(generator(0, "test", step), size)


def flat_batch(size: int, side: int = 16) -> Batch:
    """Image i is i everywhere and has label i."""
    images = torch.arange(size).float().view(-1, 1, 1, 1).expand(size, 3, side, side)
    return Batch(images, torch.arange(size))


@given(st.integers(1, 65))
def test_partners_are_neighbours_in_pairs(size: int) -> None:
    partner = partners(size, torch.device("cpu"))
    assert torch.equal(partner[partner], torch.arange(size))
    alone = (partner == torch.arange(size)).nonzero().flatten().tolist()
    assert alone == ([size - 1] if size % 2 else [])


def test_mixup_blends_image_and_labels_alike() -> None:
    batch = flat_batch(256)
    mixed = mix(batch, 0.5, 0.0, 1.0, rng(256))
    assert mixed.weight is not None
    assert mixed.other_labels is not None
    assert torch.equal(mixed.labels, batch.labels)
    assert torch.equal(mixed.other_labels, batch.labels ^ 1)
    expected = mixed.weight * mixed.labels + (1 - mixed.weight) * mixed.other_labels
    assert torch.allclose(mixed.images[:, 0, 3, 3], expected, atol=1e-3)
    assert mixed.weight.unique().numel() > 250  # each image has its own


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_cutmix_weight_is_the_true_share_of_pixels(alpha: float) -> None:
    batch = flat_batch(512, side=15)
    mixed = mix(batch, 0.0, alpha, 1.0, rng(512))
    assert mixed.weight is not None
    own = (mixed.images[:, 0] == batch.images[:, 0]).flatten(1).float().mean(1)
    assert torch.allclose(own, mixed.weight, atol=1e-6)
    pasted = ~(mixed.images[:, 0] == batch.images[:, 0])
    assert torch.equal(pasted.any(2).sum(1) * pasted.any(1).sum(1), pasted.flatten(1).sum(1))
    assert torch.equal(mixed.images[:, 0][pasted], batch.images[partners(512, torch.device("cpu")), 0][pasted])


def test_each_image_takes_one_of_the_two_and_some_are_left_alone() -> None:
    batch = flat_batch(4000, side=8)
    mixed = mix(batch, 1.0, 1.0, 0.6, rng(4000))
    assert mixed.weight is not None
    levels = (mixed.images[:, 0].flatten(1) == mixed.labels[:, None]) | (
        mixed.images[:, 0].flatten(1) == (mixed.labels ^ 1)[:, None]
    )
    alone = mixed.weight == 1
    blended = ~levels.all(1)
    assert alone.float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert blended.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(mixed.images[alone & ~blended], batch.images[alone & ~blended])


def test_off_is_off() -> None:
    batch = flat_batch(4)
    assert mix(batch, 0, 0, 1.0, rng(4)) is batch
    assert mix(batch, 1.0, 1.0, 0.0, rng(4)) is batch
