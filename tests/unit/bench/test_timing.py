from __future__ import annotations

import pytest
import torch

from wrn.bench import timing
from wrn.bench.timing import PhaseClock, fastest, interleaved, spread

CPU = torch.device("cpu")


def test_runs_take_turns_and_the_first_round_is_not_timed() -> None:
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_repeated_phases_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 11.0, 13.0, 17.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(moments))
    clock = PhaseClock(CPU)
    for phase in ("data", "forward", "data"):
        clock.begin(phase)
    assert clock.totals() == {"data": 1.0 + 4.0, "forward": 2.0}
    assert next(moments, None) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("wrn.bench.timing.time.perf_counter", lambda: now[0])
    return now


def test_the_fastest_call_on_a_cpu_is_timed_by_itself(clock: list[float]) -> None:
    taken = iter([9.0, 3.0, 2.0, 4.0])

    def run() -> None:
        clock[0] += next(taken)

    assert fastest(run, CPU, at_least=5.0) == 2.0


def test_a_gpu_is_synchronised_once_for_many_calls(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call takes the GPU 1 ms; waiting for it costs 4 ms more."""

    def wait(device: torch.device) -> None:
        clock[0] += 0.004

    def run() -> None:
        clock[0] += 0.001

    monkeypatch.setattr(timing, "wait_for", wait)
    assert fastest(run, torch.device("cuda"), at_least=0.1) == pytest.approx(0.002)  # 4 calls in 8 ms
    monkeypatch.setattr(timing, "BATCH_S", 5.0)
    assert fastest(run, torch.device("cuda"), at_least=0.1) == pytest.approx(0.001, rel=0.01)


@pytest.mark.gpu
def test_phases_on_a_gpu_are_what_the_gpu_does() -> None:
    clock = PhaseClock(torch.device("cuda"))
    clock.begin("sleep")
    torch.cuda._sleep(100_000_000)  # cycles: about 50 ms that the host does not wait for
    clock.begin("nothing")
    totals = clock.totals()
    assert totals["sleep"] > 0.02
    assert totals["nothing"] < 0.01
