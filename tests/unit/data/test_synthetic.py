import hashlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d

from wrn.data.dataset import Dataset, Split
from wrn.data.synthetic import SHAPES, TEXTURES, class_names, make_synthetic, pictures, texture_of


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
        assert texture in TEXTURES
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
    assert digest(small.train) == "9af83fa55b2f2ecf0acdd25cdf5d864b"
    assert digest(small.test) == "9adee0544706146d7999431000043fae"


def test_a_checkpoint_of_former_images_is_of_other_data(small: Dataset) -> None:
    """The set before this one had the same name, counts and labels, and the digest dd07859e24d1a163."""
    assert small.identity() == {"name": "synthetic", "train": 600, "test": 200, "digest": "768e1ab7ea00f17f"}


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


def test_every_shape_stays_inside_its_picture_and_fills_enough_of_it() -> None:
    shapes = pictures(textures=False)
    assert shapes.shape == (len(SHAPES), 64, 64)
    edge = np.ones((64, 64), dtype=bool)
    edge[1:-1, 1:-1] = False
    assert not shapes[:, edge].any(), "a look-up beyond the edge repeats the edge, which must be empty"
    assert shapes.max() == 1
    area = shapes.mean(axis=(1, 2))
    assert area.min() > 0.1
    assert area.max() < 0.75


def test_shapes_differ_and_textures_differ() -> None:
    for textures, names in ((False, SHAPES), (True, TEXTURES)):
        flat = pictures(textures=textures).reshape(len(names), -1)
        apart = abs(flat[:, None] - flat[None]).mean(axis=2) + np.eye(len(names))
        assert apart.min() > 0.05, names


def test_shapes_point_up() -> None:
    triangle = pictures(textures=False)[SHAPES.index("triangle")]
    assert triangle[:32].sum() < triangle[32:].sum()


def test_textures_repeat_without_a_seam() -> None:
    """Edges are soft across it as well: each level is a mean of five, of which a neighbour shares four."""
    for axis in (1, 2):
        steps = abs(np.diff(pictures(textures=True), axis=axis, append=pictures(textures=True).take([0], axis=axis)))
        assert steps.max() == pytest.approx(0.2)


def test_local_patterns_reveal_the_class_and_pixels_do_not() -> None:
    """A better model must be rewarded, and colour and position alone must not do; guessing scores 1 % and 5 %."""
    data = make_synthetic(0, train_per_class=20, test_per_class=10)
    train, test = data.train.images.float(), data.test.images.float()

    def ridge(features: Callable[[Tensor], Tensor], per_label: int) -> float:
        """Top-1 on `test` of ridge regression, the best linear model for few images."""
        x = features(train)
        mean, std = x.mean(0), x.std(0)
        x = (x - mean) / std
        gram = x.T @ x
        gram += 0.3 * gram.diagonal().mean() * torch.eye(len(gram))
        weights = torch.linalg.solve(gram, x.T @ torch.eye(100)[data.train.labels // per_label])
        predicted = ((features(test) - mean) / std @ weights).argmax(1)
        return (predicted == data.test.labels // per_label).float().mean().item()

    def pixels(images: Tensor) -> Tensor:
        return avg_pool2d(images, 2).flatten(1)

    random = np.random.default_rng(0)
    corners = zip(random.integers(len(train), size=64), random.integers(2, 24, (64, 2)), strict=True)
    patches = torch.stack([train[i, :, y : y + 7, x : x + 7].mean(0, keepdim=True) for i, (y, x) in corners])
    patches -= patches.mean((2, 3), keepdim=True)
    patches /= patches.flatten(1).norm(dim=1)[:, None, None, None]

    def patterns(images: Tensor) -> Tensor:
        """Like a fixed first layer, with random patches of images as filters, averaged over each quarter."""
        return adaptive_avg_pool2d(conv2d(images.mean(1, keepdim=True), patches, stride=2).abs(), 2).flatten(1)

    assert ridge(pixels, 1) < 0.04
    assert ridge(pixels, 5) < 0.10
    assert ridge(patterns, 1) > 0.08
    assert ridge(patterns, 5) > 0.15
