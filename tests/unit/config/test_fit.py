from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config.fit import fit_to_data, held_out, too_small
from wrn.config.schema import Config


def default(**values: Any) -> Config:
    """A configuration in which these values are those of a recipe that ships, without a hold-out unless named."""
    return Config().adapted(**{"val_fraction": 0.0, **values})


def given_by_hand(**values: Any) -> Config:
    return Config(**values).adapted(**{"val_fraction": 0.0, **values})


CIFAR = [500] * 100


@pytest.mark.parametrize(
    ("config", "classes", "world_size", "adapted"),
    [
        (default(val_fraction=0.05), CIFAR, 1, {}),
        (default(val_fraction=0.05), [19] * 60, 1, {"val_fraction": 0.0}),  # less than an image of each
        (default(val_fraction=0.05), [19, 20] * 60, 1, {}),
        (Config(val_fraction=0.05), [19] * 60, 1, {}),
        (Config(target_accuracy=0.5, val_fraction=0.05), [19] * 60, 1, {}),
        (default(val_fraction=0.05, target_accuracy=0.5), [19] * 60, 1, {"val_fraction", "target_accuracy"}),
        # Values that need the images that would be held out.
        (Config(train_images=50_000).adapted(val_fraction=0.05), CIFAR, 1, {"val_fraction": 0.0}),
        (Config(train_images=47_500).adapted(val_fraction=0.05), CIFAR, 1, {}),
        (Config(train_images=50_001).adapted(val_fraction=0.05), CIFAR, 1, {}),  # more than there are either way
        (Config(batch_size=1000).adapted(val_fraction=0.05), [100] * 10, 1, {"val_fraction": 0.0}),
        (Config(batch_size=950).adapted(val_fraction=0.05), [100] * 10, 1, {}),
        (Config(batch_size=949).adapted(val_fraction=0.05), [100] * 10, 2, {"val_fraction": 0.0}),  # a last batch of 1
        (Config(batch_size=1000, val_fraction=0.05), [100] * 10, 1, {}),
        # Batches.
        (default(), [10] * 6, 1, {"batch_size": 60}),
        (given_by_hand(batch_size=256), [10] * 6, 1, {}),
        (given_by_hand(train_images=100), CIFAR, 1, {"batch_size": 100}),
        (default(batch_size=50), [51], 2, {"batch_size": 48}),  # 50 and 49 leave batches of 1 and 2
        (default(batch_size=50), [4], 8, {"batch_size": 4}),  # too few images for eight: an error, later
        (given_by_hand(micro_batch=256), [60], 1, {"batch_size": 60, "micro_batch": "auto"}),
        (default(train_images=600), [100], 1, {"train_images": 0, "batch_size": 100}),
    ],
)
def test_defaults_fit_the_data(
    config: Config, classes: list[int], world_size: int, adapted: dict[str, Any] | set[str]
) -> None:
    lines: list[str] = []
    fitted = fit_to_data(config, classes, world_size, lines.append)
    changed = {key: value for key, value in dict(fitted).items() if value != getattr(config, key)}
    assert (set(changed) if isinstance(adapted, set) else changed) == adapted
    assert {line.partition(":")[0] for line in lines if " instead of " in line} == set(adapted)
    assert fitted.given == config.given


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([5000, 4, 5000], ["val_fraction: 1 of 3 classes have too few images to hold any of them out"]),
        ([660] * 3, ["val_fraction: only 99 images are held out, so the best epoch is partly chance"]),
        ([680] * 3, []),
    ],
)
def test_what_is_said_of_a_hold_out_that_nobody_asked_for(classes: list[int], told: list[str]) -> None:
    lines: list[str] = []
    assert fit_to_data(default(val_fraction=0.05), classes, 1, lines.append).val_fraction == 0.05
    assert [line.partition(";")[0] for line in lines] == told
    given_fraction = Config(val_fraction=0.05)
    assert fit_to_data(given_fraction, classes, 1, pytest.fail) is given_fraction


def test_fitting_again_changes_nothing() -> None:
    """A run's own configuration is saved as it fits, and compared when the run is resumed."""
    classes = [10] * 6
    fitted = fit_to_data(default(val_fraction=0.05), classes, 2, lambda line: None)
    assert fit_to_data(fitted, classes, 2, pytest.fail) is fitted
    all_given = Config(**dict(fitted))
    assert fit_to_data(all_given, classes, 2, pytest.fail) is all_given


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(1, 400),
    st.floats(0, 0.5),
)
def test_default_sizes_always_fit(classes: list[int], world_size: int, batch_size: int, fraction: float) -> None:
    config = fit_to_data(default(val_fraction=fraction, batch_size=batch_size), classes, world_size, lambda line: None)
    left = sum(classes) - sum(held_out(config.val_fraction, classes))
    assert 0 < config.batch_size <= left
    assert not too_small(left, config.batch_size, world_size) or left < 2 * world_size
