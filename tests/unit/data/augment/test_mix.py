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


def test_a_weight_matches_its_image_for_mixup_and_cutmix_alike() -> None:
    batch = flat_batch(1000, side=8)
    mixed = mix(batch, 1.0, 1.0, 0.8, rng(1000))
    assert mixed.weight is not None
    assert mixed.other_labels is not None
    expected = mixed.weight * mixed.labels + (1 - mixed.weight) * mixed.other_labels
    assert torch.allclose(mixed.images.mean((1, 2, 3)), expected, atol=1e-2)


def test_cutmix_takes_the_area_that_it_draws() -> None:
    """With Beta(1, 1) a uniform one u, of sides sqrt(u); around a random pixel s - s^2 / 4 of a side s is inside."""
    mixed = mix(flat_batch(2000, side=32), 0.0, 1.0, 1.0, rng(2000))
    assert mixed.weight is not None
    assert 1 - mixed.weight.mean().item() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)


def test_rows_of_a_batch_are_rows_of_all_it_has() -> None:
    mixed = mix(flat_batch(8), 0.5, 0.0, 1.0, rng(8))
    part = mixed.rows(slice(3, 6))
    assert len(mixed.tensors) == 4
    assert all(torch.equal(one[3:6], other) for one, other in zip(mixed.tensors, part.tensors, strict=True))
