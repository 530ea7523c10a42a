from __future__ import annotations

import time

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


def test_phases_that_come_again_are_added_up() -> None:
    clock = PhaseClock(CPU)
    for phase in ("data", "forward", "data"):
        clock.begin(phase)
        time.sleep(0.02)
    totals = clock.totals()
    assert list(totals) == ["data", "forward"]
    assert totals["data"] > totals["forward"] >= 0.02


@pytest.mark.gpu
def test_phases_on_a_gpu_are_what_the_gpu_does() -> None:
    clock = PhaseClock(torch.device("cuda"))
    clock.begin("sleep")
    torch.cuda._sleep(100_000_000)  # cycles: about 50 ms, of which the host sees nothing
    clock.begin("nothing")
    totals = clock.totals()
    assert totals["sleep"] > 0.02
    assert totals["nothing"] < 0.01
