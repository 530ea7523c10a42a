import hashlib
from collections import Counter

import numpy as np
import pytest
import torch

from wrn.data.dataset import Dataset, Split
from wrn.data.patterns import SHAPES, TEXTURE_NAMES
from wrn.data.synthetic import class_names, make_synthetic, texture_of


@pytest.fixture(scope="module")
def small() -> Dataset:
    return make_synthetic(0, train_per_class=6, test_per_class=2)


def digest(split: Split) -> str:
    return hashlib.md5(split.images.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()


def test_has_the_layout_of_cifar100(small: Dataset) -> None:
    assert small.name == "synthetic"
    assert small.train.images.shape == (600, 3, 32, 32)
    assert small.test.images.shape == (200, 3, 32, 32)
    assert small.train.images.dtype == torch.uint8
    assert small.train.labels.dtype == torch.int64
    assert small.num_classes == 100
    assert len(small.superclasses) == 20
    assert Counter(small.superclass_of) == dict.fromkeys(range(20), 5)
    assert (torch.bincount(small.train.labels, minlength=100) == 6).all()
    assert (torch.bincount(small.test.labels, minlength=100) == 2).all()


def test_class_names_are_unique_and_name_texture_and_shape(small: Dataset) -> None:
    assert len(set(class_names())) == 100
    for name, superclass in zip(small.classes, small.superclass_of, strict=True):
        texture, shape = name.split("-")
        assert texture in TEXTURE_NAMES
        assert shape == small.superclasses[superclass]


def test_no_texture_gives_the_class_away() -> None:
    worn = Counter(texture_of(superclass, sibling) for superclass in range(len(SHAPES)) for sibling in range(5))
    assert worn == dict.fromkeys(range(10), 10)


def test_a_seed_gives_the_same_bytes_again(small: Dataset) -> None:
    again = make_synthetic(0, train_per_class=6, test_per_class=2)
    assert digest(again.train) == digest(small.train)
    assert digest(again.test) == digest(small.test)


def test_the_bytes_never_change(small: Dataset) -> None:
    """Results on the synthetic set are comparable with earlier ones only if the images never change."""
    assert digest(small.train) == "f2a134376b4f63b8e93251066f0eef67"
    assert digest(small.test) == "e0854e2399b1d0ccffd38d59a09dc0a2"


def test_another_seed_gives_other_images(small: Dataset) -> None:
    other = make_synthetic(1, train_per_class=6, test_per_class=2)
    assert digest(other.train) != digest(small.train)


def test_no_image_is_in_both_splits(small: Dataset) -> None:
    images = torch.cat([small.train.images, small.test.images]).flatten(1).numpy()
    assert len(np.unique(images, axis=0)) == len(images)


def test_classes_are_shuffled(small: Dataset) -> None:
    labels = small.train.labels
    assert (labels[1:] == labels[:-1]).float().mean() < 0.1
    assert labels[:300].float().mean() == pytest.approx(49.5, abs=6)


def test_images_use_the_range_without_being_mostly_clipped(small: Dataset) -> None:
    clipped = ((small.train.images == 0) | (small.train.images == 255)).float().mean()
    assert clipped < 0.1
    for mean, std in zip(small.mean, small.std, strict=True):
        assert mean == pytest.approx(0.47, abs=0.06)
        assert std == pytest.approx(0.22, abs=0.06)


def test_colour_and_position_alone_do_not_reveal_the_class() -> None:
    """Ridge regression on pixels, the best linear model for few images, must do badly; guessing scores 1 %."""
    data = make_synthetic(0, train_per_class=20, test_per_class=5)
    mean = torch.tensor(data.mean).view(1, 3, 1, 1) * 255

    def pixels(split: Split) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(split.images.float() - mean, 2).flatten(1)

    x, targets = pixels(data.train), torch.eye(100)[data.train.labels]
    gram = x.T @ x
    gram += 0.3 * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, x.T @ targets)
    top1 = ((pixels(data.test) @ weights).argmax(1) == data.test.labels).float().mean()
    assert top1 < 0.10
