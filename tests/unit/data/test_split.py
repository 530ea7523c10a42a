from __future__ import annotations

import pytest
import torch

from wrn.data.dataset import Split
from wrn.data.split import hold_out, subset
from wrn.errors import DataError


@pytest.fixture
def split() -> Split:
    images = torch.arange(300, dtype=torch.int64)[:, None, None, None].expand(300, 3, 2, 2) % 256
    return Split(images.to(torch.uint8), torch.arange(300) % 10)


def rows(part: Split) -> set[tuple[int, int]]:
    return set(zip(part.images[:, 0, 0, 0].tolist(), part.labels.tolist(), strict=True))


def test_hold_out_is_stratified_disjoint_and_complete(split: Split) -> None:
    training, validation = hold_out(split, 0.2, seed=0)
    assert torch.bincount(validation.labels).tolist() == [6] * 10
    assert (len(training), len(validation)) == (240, 60)
    everything = torch.cat([training.labels, validation.labels])
    assert torch.equal(torch.bincount(everything), torch.bincount(split.labels))
    by_position = Split(torch.arange(300).view(300, 1, 1, 1), split.labels)
    one, other = (set(p.images.flatten().tolist()) for p in hold_out(by_position, 0.2, seed=0))
    assert not one & other
    assert one | other == set(range(300))


def test_the_seed_determines_which_images_are_held_out(split: Split) -> None:
    by_position = Split(torch.arange(300).view(300, 1, 1, 1), split.labels)
    first, again, other = (hold_out(by_position, 0.2, seed)[1].images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("count", [1, 10, 25, 300])
def test_a_subset_is_even_over_classes(split: Split, count: int) -> None:
    part = subset(split, count, seed=3)
    counts = torch.bincount(part.labels, minlength=10)
    assert len(part) == count
    assert counts.max() - counts.min() <= 1
    assert rows(part) <= rows(split)


def test_impossible_splits(split: Split) -> None:
    with pytest.raises(DataError, match="train_images 301 is more than the 300"):
        subset(split, 301, 0)
    with pytest.raises(DataError, match="to validate on"):
        hold_out(split, 0.001, 0)
