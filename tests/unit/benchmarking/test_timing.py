from __future__ import annotations

import pytest
import torch

from wrn.benchmarking.timing import PhaseClock, interleaved, spread

CPU = torch.device("cpu")


def test_runs_take_turns_and_the_first_round_is_not_timed() -> None:
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_phases_that_come_again_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    clock = PhaseClock(CPU)
    for phase in ("data", "forward", "data"):
        clock.begin(phase)
    assert clock.totals() == {"data": 1.0 + 4.0, "forward": 2.0}
    assert next(moments, None) is None


@pytest.mark.gpu
def test_phases_on_a_gpu_are_what_the_gpu_does() -> None:
    clock = PhaseClock(torch.device("cuda"))
    clock.begin("sleep")
    torch.cuda._sleep(100_000_000)  # cycles: about 50 ms, of which the host sees nothing
    clock.begin("nothing")
    totals = clock.totals()
    assert totals["sleep"] > 0.02
    assert totals["nothing"] < 0.01
