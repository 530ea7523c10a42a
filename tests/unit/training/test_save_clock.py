from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.training import save_clock
from wrn.training.save_clock import SaveClock


class Time:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@given(every=st.floats(1, 1000), write=st.floats(0, 1), steps=st.lists(st.floats(0.001, 1), min_size=1, max_size=300))
def test_a_kill_costs_no_more_than_the_interval(every: float, write: float, steps: list[float]) -> None:
    """If a step and a write fit into half the interval; otherwise nothing could help."""
    scale = every / 8  # of steps and writes: at most an eighth of the time each
    with pytest.MonkeyPatch.context() as patch:
        time = Time()
        patch.setattr(save_clock, "time", time)
        clock, kept, write_seconds = SaveClock(every), 0.0, None
        for step in steps:
            time.now += step * scale
            if clock.due(write_seconds):
                clock.saved()
                end = time.now + write * scale  # only then does the new checkpoint count
                assert end - kept <= every
                kept, time.now, write_seconds = time.now, end, write * scale
        assert time.now - kept <= every


@pytest.mark.parametrize(
    ("write_seconds", "step_seconds", "last_at"),
    [(None, 0, 30), (1, 0, 58), (1, 4, 50), (20, 4, 30)],
    ids=("half, until a write has shown its time", "twice the write", "and twice the step", "half at most"),
)
def test_a_checkpoint_is_due_before_its_writing_would_exceed_the_interval(
    monkeypatch: pytest.MonkeyPatch, write_seconds: float | None, step_seconds: float, last_at: float
) -> None:
    time = Time()
    monkeypatch.setattr(save_clock, "time", time)

    def due_at(seconds: float) -> bool:
        time.now = 0
        clock = SaveClock(60)
        time.now = seconds - step_seconds
        clock.due(write_seconds)
        time.now = seconds
        return clock.due(write_seconds)

    assert not due_at(last_at - 0.01)
    assert due_at(last_at)
    assert due_at(last_at + 100)


def test_with_no_interval_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr(save_clock, "time", time)
    clock = SaveClock(0)
    time.now = 1e9
    assert not clock.due(None)
