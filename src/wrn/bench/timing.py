"""Timers for a call, for calls that take turns, and for the phases of a step."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

BATCH_S, MOST_CALLS = 0.02, 1000
"""On a GPU: the approximate time of the calls between two synchronisations, and their maximum number."""

Run = Callable[[], object]


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished everything issued to it; a GPU works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(run: Run, device: torch.device | None = None) -> float:
    """Wall time of one call, until the device has finished it."""
    started = time.perf_counter()
    run()
    if device is not None:
        wait_for(device)
    return time.perf_counter() - started


def fastest(run: Run, device: torch.device, at_least: float) -> float:
    """The best time of a call, of those that fit into `at_least` seconds, after one untimed call.

    On a GPU, several calls run before each synchronisation: the host launches the next while the GPU works, so neither
    launching nor waiting counts, unless a call takes less time than its launch.
    """
    seconds(run, device)
    best, deadline = seconds(run, device), time.perf_counter() + at_least
    calls = 1 if device.type == "cpu" else max(1, min(MOST_CALLS, math.ceil(BATCH_S / best)))

    def several() -> None:
        for _ in range(calls):
            run()

    while time.perf_counter() < deadline:
        best = min(best, seconds(several, device) / calls)
    return best


def interleaved(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Wall times of each run, one per round: A B C, A B C, ... so that a busy machine slows all of them alike.

    One untimed round comes first, to fill caches and select kernels.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = seconds(run)
            if number:
                times[name].append(taken)
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class PhaseClock:
    """Adds up the seconds of consecutive phases: `begin("forward")` ends the previous phase.

    On a GPU the timestamps are events in its stream, so the host runs ahead as it does without a timer, and a phase
    includes what the GPU does in it and the gaps in which it waits for the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._moments: list[tuple[str, Any]] = []

    def begin(self, phase: str) -> None:
        self._moments.append((phase, self._now()))

    def totals(self) -> dict[str, float]:
        """Seconds by phase, in order of first occurrence; the current phase ends now."""
        self.begin("end")
        wait_for(self._device)
        sums: dict[str, float] = {}
        for (phase, start), (_, end) in zip(self._moments, self._moments[1:], strict=False):
            taken = start.elapsed_time(end) / 1e3 if self._device.type == "cuda" else end - start
            sums[phase] = sums.get(phase, 0.0) + taken
        return sums

    def _now(self) -> Any:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            return event
        wait_for(self._device)
        return time.perf_counter()
