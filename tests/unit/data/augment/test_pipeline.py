from __future__ import annotations

import pytest
import torch

from tiny import augmentation
from wrn.config.schema import AugmentSection
from wrn.data.augment.batch import Batch
from wrn.data.augment.pipeline import Pipeline
from wrn.data.random import BatchRandom, generator

HALF, QUARTER = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
NOTHING = augmentation(crop_padding=0, flip=False)


def run(options: AugmentSection, images: torch.Tensor) -> Batch:
    rng = BatchRandom(generator(0, "augment", 0), len(images), device=torch.device("cpu"))
    pipeline = Pipeline(options, HALF, QUARTER)
    everything = torch.arange(len(images))
    return pipeline(pipeline.windows(images), everything, everything, rng)


def noise(count: int, side: int = 32) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (count, 3, side, side), dtype=torch.uint8, generator=draws)
    return images.contiguous(memory_format=torch.channels_last)


def test_without_options_there_is_only_normalisation() -> None:
    images = noise(7)
    batch = run(NOTHING, images)
    assert torch.allclose(batch.images, (images.float() / 255 - 0.5) / 0.25, atol=1e-5)
    assert batch.labels.tolist() == list(range(7))
    assert batch.weight is None
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("policy", ["none", "randaugment", "trivialaugment"])
def test_each_image_has_its_own_draws(policy: str) -> None:
    """Not one draw for the whole batch: copies of the same image come out different."""
    images = noise(1).expand(64, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    batch = run(augmentation(augment=policy, cutout=8), images)
    assert len({image.numpy().tobytes() for image in batch.images}) > 55


def test_the_input_images_are_not_modified() -> None:
    images = noise(32)
    before = images.clone()
    for policy in ("none", "randaugment", "trivialaugment"):
        run(augmentation(augment=policy, cutout=8, random_erasing=1.0, mixup_alpha=1.0), images)
        run(augmentation(crop_padding=0, flip=False, augment=policy), images)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("side", "hole"), [(32, 8), (16, 4), (20, 5), (24, 6)])
def test_cutout_shrinks_with_the_images(side: int, hole: int) -> None:
    batch = run(augmentation(crop_padding=0, flip=False, cutout=8), torch.full((200, 3, side, side), 255).byte())
    blank = (batch.images == 0).all(1).flatten(1).sum(1)
    assert blank.max() == hole**2


def test_the_shift_shrinks_with_the_images() -> None:
    ramp = torch.arange(16, dtype=torch.uint8).expand(300, 3, 16, 16)
    batch = run(augmentation(crop_padding=4, flip=False), ramp.contiguous(memory_format=torch.channels_last))
    middle = ((batch.images[:, 0, 8, 8] * 0.25 + 0.5) * 255).round()
    assert middle.unique().tolist() == [6, 7, 8, 9, 10]


def test_blanked_pixels_are_the_mean_colour_whatever_follows() -> None:
    """Erasing works on normalised images: 0 is the mean of the training set."""
    batch = run(augmentation(crop_padding=0, flip=False, cutout=16), torch.full((50, 3, 32, 32), 10).byte())
    values = batch.images.unique()
    assert len(values) == 2
    assert values[1] == 0


def test_rand_augment_gets_its_number_and_its_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def noted(images: torch.Tensor, operations: int, level: int, rng: BatchRandom) -> torch.Tensor:
        given.append((operations, level))
        return images

    monkeypatch.setattr("wrn.data.augment.pipeline.rand_augment", noted)
    run(augmentation(augment="randaugment", randaugment_ops=3, randaugment_magnitude=7), noise(2))
    assert given == [(3, 7)]
