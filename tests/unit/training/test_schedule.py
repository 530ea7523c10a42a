from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config.schema import Config
from wrn.config.stages import parse_stages, side_at, steps_by_side
from wrn.training.schedule import Schedule, make_schedule


def curve(schedule: Schedule) -> list[float]:
    return [round(schedule.lr_at(step), 5) for step in range(schedule.total_steps)]


def test_the_whole_cosine_curve() -> None:
    schedule = Schedule("cosine", peak=1.0, floor=0.0, warmup_steps=3, total_steps=11)
    literals = [0.33333, 0.66667, 1.0, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806, 0.0]
    assert curve(schedule) == literals


def test_the_whole_linear_curve_without_warm_up() -> None:
    schedule = Schedule("linear", peak=0.4, floor=0.1, warmup_steps=0, total_steps=4)
    assert curve(schedule) == [0.4, 0.3, 0.2, 0.1]


def test_the_paper_drops_to_a_fifth_three_times() -> None:
    config = Config(
        epochs=200, batch_size=128, schedule="step", milestones="60 120 160", lr_decay=0.2, warmup_epochs=0, lr=0.1
    )
    schedule = make_schedule(config, steps_per_epoch=391)
    at = [schedule.lr_at(epoch * 391) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert at == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
    assert schedule.lr_at(60 * 391 - 1) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@given(
    peak=st.floats(1e-3, 10),
    share=st.floats(0, 1),
    warmup=st.integers(0, 50),
    rest=st.integers(2, 200),
)
def test_rises_to_its_peak_falls_to_its_floor(kind: str, peak: float, share: float, warmup: int, rest: int) -> None:
    schedule = Schedule(kind, peak, peak * share, warmup, warmup + rest)
    rates = [schedule.lr_at(step) for step in range(schedule.total_steps)]
    top = max(warmup - 1, 0)
    assert rates[top] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(peak * share)
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates[:-1])
    assert rates[: top + 1] == pytest.approx(sorted(rates[: top + 1]))
    assert rates[top:] == pytest.approx(sorted(rates[top:], reverse=True))


def test_epochs_become_steps() -> None:
    schedule = make_schedule(Config(epochs=10, warmup_epochs=0.5), steps_per_epoch=7)
    assert (schedule.warmup_steps, schedule.total_steps) == (4, 70)


def test_resolution_stages_take_their_shares() -> None:
    schedule = make_schedule(Config(resolutions="20:0.35 24:0.4 32:0.25", epochs=10, warmup_epochs=0), 10)
    sides = [schedule.resolution_at(step) for step in range(100)]
    assert sides == [20] * 35 + [24] * 40 + [32] * 25


@given(
    sides=st.lists(st.integers(8, 32), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 50), min_size=5, max_size=5),
    total=st.integers(1, 300),
    first=st.integers(0, 300),
)
def test_steps_of_each_size_are_counted(sides: list[int], weights: list[int], total: int, first: int) -> None:
    weights = weights[: len(sides)]
    stages = tuple((side, weight / sum(weights)) for side, weight in zip(sides, weights, strict=True))
    first = min(first, total)
    counted = steps_by_side(stages, first, total)
    one_by_one = Counter(side_at(stages, step, total) for step in range(first, total))
    assert sum(counted.values()) == total - first
    # Where a stage ends in the very middle of a step, rounding may give that one to either.
    assert all(abs(number - one_by_one[side]) <= len(stages) for side, number in counted.items())


def test_steps_of_each_size_by_the_quickstart() -> None:
    stages = parse_stages("16:0.5 20:0.25 24:0.12 32:0.13")
    assert steps_by_side(stages, 0, 1600) == {16: 800, 20: 400, 24: 192, 32: 208}
    assert steps_by_side(stages, 1000, 1600) == {16: 0, 20: 200, 24: 192, 32: 208}
    assert steps_by_side(stages, 1601, 1600) == {16: 0, 20: 0, 24: 0, 32: 0}


def test_drops_stop_at_the_floor() -> None:
    config = Config(epochs=3, schedule="step", milestones="1 2", lr_decay=0.1, lr=0.1, min_lr=0.005, warmup_epochs=0)
    assert curve(make_schedule(config, steps_per_epoch=2)) == [0.1, 0.1, 0.01, 0.01, 0.005, 0.005]
