from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.catalog import workload
from wrn.config.layers import resolve
from wrn.config.schema import Config


def configured(**values: object) -> Config:
    return Config.model_validate({"val_fraction": 0, **values})


def test_wrn_28_10_by_hand() -> None:
    config = configured()
    assert workload.multiply_adds(config) == 5_243_386_368
    assert workload.parameters(config) == 36_536_884
    assert workload.flop_per_image(config) == 31_460_318_208
    assert workload.epoch_flop(config) == pytest.approx(1.573e15, rel=1e-3)


def test_wrn_10_1_by_hand() -> None:
    """Stem 442,368; one block per group: 4,718,592, then twice 3,538,944 and a shortcut of 131,072; classifier."""
    config = configured(depth=10, widen_factor=1)
    assert workload.multiply_adds(config) == 442_368 + 4_718_592 + 2 * (3_538_944 + 131_072) + 6_400


def test_a_quarter_of_the_pixels_is_a_quarter_of_the_work_but_for_the_classifier() -> None:
    config = configured()
    assert workload.multiply_adds(config) - 64_000 == 4 * (workload.multiply_adds(config, 16) - 64_000)


def test_classes_follow_the_data() -> None:
    assert workload.classes_of(configured()) == 100
    assert workload.classes_of(configured(dataset="cifar10")) == 10
    assert workload.classes_of(configured(dataset="folder", num_classes=7)) == 7


def test_sam_costs_twice() -> None:
    assert workload.flop_per_image(configured(sam_rho=0.1)) == 62_920_636_416


def test_the_sprint_recipe_is_worth_about_19_full_epochs() -> None:
    sprint = resolve("sprint", {}).config
    full = workload.train_images(sprint) * workload.flop_per_image(sprint)
    assert sprint.epochs * workload.epoch_flop(sprint) / full == pytest.approx(19, abs=0.5)


def test_images_of_an_epoch() -> None:
    assert workload.train_images(configured()) == 50_000
    assert workload.train_images(configured(val_fraction=0.1)) == 45_000
    assert workload.train_images(configured(train_images=2_000)) == 2_000
    assert workload.train_images(configured(train_images=2_000, val_fraction=0.1)) == 2_000  # of those that are left
    assert workload.train_images(configured(train_images=48_000, val_fraction=0.1)) == 45_000


def test_evaluations() -> None:
    """In forward passes over one image."""

    def passes(**values: object) -> float:
        config = configured(epochs=100, **values)
        return workload.evaluation_flop(config) / (2 * workload.multiply_adds(config))

    assert passes() == 100 * 10_000
    assert passes(eval_epochs=0) == 10_000
    assert passes(eval_epochs=30) == 4 * 10_000
    assert passes(eval_epochs=0, tta=True) == 20_000
    assert passes(val_fraction=0.1) == 100 * 5_000 + 2 * 10_000  # the last and the best weights, in the end


def test_activations_by_hand() -> None:
    """WRN-28-10: 4,620,288 values of 2 bytes; dropout adds 3 bytes to each of 1,146,880."""
    assert workload.activation_bytes(configured(dropout=0.0)) == 9_240_576
    assert workload.activation_bytes(configured(dropout=0.3)) == 12_681_216
    assert workload.activation_bytes(configured(dropout=0.0, amp=False)) == 18_481_152


@pytest.mark.parametrize(
    ("values", "gpus", "share"),
    [
        ({}, 1, (256, 256, 1)),
        ({}, 8, (32, 32, 1)),
        ({"micro_batch": 100}, 1, (256, 100, 3)),
        ({"scale_lr": "linear"}, 8, (256, 256, 1)),
        ({"sam_rho": 0.1}, 1, (256, 256, 2)),
        ({"sam_rho": 0.1, "sam_batch": 32}, 1, (256, 32, 16)),
        ({"sam_batch": 32}, 1, (256, 256, 1)),
    ],
)
def test_a_share_of_a_step(values: dict[str, object], gpus: int, share: tuple[int, int, int]) -> None:
    found = workload.share_of_step(configured(**values), gpus)
    assert (found.images, found.at_a_time, found.passes) == share


@given(st.integers(1, 4096), st.integers(1, 4096), st.sampled_from([10, 16, 28]), st.integers(1, 12))
def test_more_images_need_more_memory(fewer: int, more: int, depth: int, widen_factor: int) -> None:
    config = configured(depth=depth, widen_factor=widen_factor)
    fewer, more = sorted((fewer, more))
    assert workload.memory_gib(config, fewer) <= workload.memory_gib(config, more)
