from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.trackers.eta import LONG_ENOUGH_S, Remaining, seconds_left

sizes = st.integers(8, 32)
steps = st.integers(0, 100_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [1000.0]
    monkeypatch.setattr("wrn.trackers.eta.time.monotonic", lambda: now[0])
    return now


@given(st.dictionaries(sizes, steps), st.dictionaries(sizes, st.integers(1, 1000), min_size=1), st.floats(1e-6, 1.0))
def test_steps_proportional_to_pixels_are_predicted_exactly(
    left: dict[int, int], seen: dict[int, int], per_pixel: float
) -> None:
    """Whichever sizes were timed, and for any time."""
    timed = {side: (float(number), number * per_pixel * side**2) for side, number in seen.items()}
    expected = sum(number * per_pixel * side**2 for side, number in left.items())
    assert seconds_left(left, timed) == pytest.approx(expected)


@given(st.dictionaries(sizes, st.tuples(steps, st.floats(LONG_ENOUGH_S, 1e4))))
def test_sizes_that_were_timed_cost_what_they_took(sides: dict[int, tuple[int, float]]) -> None:
    timed = {side: (10.0, seconds) for side, (_, seconds) in sides.items()}
    left = {side: number for side, (number, _) in sides.items()}
    expected = sum(number * seconds / 10 for number, seconds in sides.values())
    assert (seconds_left(left, timed) or 0.0) == pytest.approx(expected)


def test_nothing_is_said_before_a_step_was_timed() -> None:
    assert seconds_left({32: 5}, {}) is None


def test_a_size_counts_once_it_was_timed_for_some_seconds() -> None:
    """Before that, the host may be ahead of its GPU, so the previous size is a better guide."""
    known = {16: (100.0, 50.0), 32: (20.0, 0.1)}
    assert seconds_left({32: 10}, known) == pytest.approx(10 * 0.5 * 4)
    assert seconds_left({32: 10}, {**known, 32: (10.0, 30.0)}) == pytest.approx(10 * 3.0)
    assert seconds_left({32: 10}, {32: (20.0, 0.1)}) == pytest.approx(0.05)


def test_what_was_measured_replaces_what_was_assumed(clock: list[float]) -> None:
    """Small images cannot use a whole machine: here twice the side costs only twice the time."""
    run = Remaining(((16, 0.5), (32, 0.5)), 200, 0, 100)
    said = []
    for step in range(200):
        clock[0] += (30.0 if step in (0, 100) else 0.0) + (1.0 if step < 100 else 2.0)  # selecting kernels
        run.step(step)
        said.append(run.seconds())
    assert said[0] is None
    assert said[50] == pytest.approx(49 * 1.0 + 100 * 4.0)
    assert said[100] == pytest.approx(99 * 4.0)
    assert said[150] == pytest.approx(49 * 2.0)
    assert said[-1] == 0.0


def test_evaluations_are_counted_and_do_not_grow(clock: list[float]) -> None:
    run = Remaining(((16, 0.5), (32, 0.5)), 40, 0, 10)
    for step in range(10):
        clock[0] += 1.0
        run.step(step)
    clock[0] += 7.0
    run.epoch(10.0)
    assert run.seconds() == pytest.approx(10 * 1.0 + 20 * 4.0 + 3 * 7.0)
    clock[0] += 1.0
    run.step(10)  # from the end of the evaluation on
    assert run.seconds() == pytest.approx(9 * 1.0 + 20 * 4.0 + 3 * 7.0)


def test_a_host_that_ran_ahead_waits_at_the_end_of_the_epoch(clock: list[float]) -> None:
    run = Remaining(((32, 1.0),), 200, 0, 100)
    for step in range(100):
        clock[0] += 0.01
        run.step(step)
    clock[0] += 59.0
    run.epoch(60.0)
    assert run.seconds() == pytest.approx(60.0, rel=0.02)


def test_an_epoch_that_ended_before_the_resume_is_not_timed(clock: list[float]) -> None:
    """Interrupted in its evaluation: its steps were timed by the earlier start."""
    run = Remaining(((32, 1.0),), 200, 100, 100)
    clock[0] += 5.0
    run.epoch(60.0)
    for step in range(100, 102):
        clock[0] += 1.0
        run.step(step)
    assert run.seconds() == pytest.approx(98.0)


def test_a_resumed_epoch_includes_seconds_of_the_earlier_start(clock: list[float]) -> None:
    run = Remaining(((32, 1.0),), 200, 50, 100, before=500.0)
    for step in range(50, 100):
        clock[0] += 1.0
        run.step(step)
    clock[0] += 7.0
    run.epoch(550.0)
    assert run.seconds() == pytest.approx(100 * 1.0 + 7.0)


def test_the_estimate_follows_a_machine_that_slows_down(clock: list[float]) -> None:
    run = Remaining(((32, 1.0),), 100_000, 0, 100_000)
    for step in range(10_000):
        clock[0] += 1.0 if step < 5_000 else 2.0
        run.step(step)
    assert run.seconds() == pytest.approx(2.0 * 90_000, rel=0.01)


def test_an_epoch_that_was_not_timed_does_not_make_the_others_cheaper(clock: list[float]) -> None:
    """Interrupted in its evaluation and resumed there: the time between epochs is the mean of the timed ones."""
    run = Remaining(((32, 1.0),), 300, 100, 100)
    clock[0] += 5.0
    run.epoch(60.0)
    for step in range(100, 200):
        clock[0] += 1.0
        run.step(step)
    clock[0] += 7.0
    run.epoch(100.0)
    assert run.seconds() == pytest.approx(100.0 + 7.0)
