"""Clocks: a call, calls that take turns, and the phases of a step."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

BATCH_S, MOST_CALLS = 0.02, 1000
"""On a GPU: about how long the calls between two moments of waiting take, and how many they are at most."""

Run = Callable[[], object]


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was asked to do: a GPU works behind the back of the host."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(run: Run, device: torch.device | None = None) -> float:
    """Wall time of one call, until the device is done with it."""
    started = time.perf_counter()
    run()
    if device is not None:
        wait_for(device)
    return time.perf_counter() - started


def fastest(run: Run, device: torch.device, at_least: float) -> float:
    """What a call takes at best, of those that fit into `at_least` seconds, after one that is not timed.

    A GPU gets several calls before it is waited for: the host launches the next while it works, and neither that nor
    the waiting counts as the device's time, unless a call takes it less than a launch.
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

    One untimed round comes first: caches, allocators and kernels are chosen then.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = seconds(run)
            if number:
                times[name].append(taken)
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class PhaseClock:
    """Adds up the seconds of phases that follow each other: `begin("forward")` ends the phase before it.

    On a GPU the moments are events in its stream, so the host runs ahead as it does without a clock, and a phase is
    charged with what the GPU does in it and with the gaps in which it waits for the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._moments: list[tuple[str, Any]] = []

    def begin(self, phase: str) -> None:
        self._moments.append((phase, self._now()))

    def totals(self) -> dict[str, float]:
        """Seconds by phase, in the order in which they first came; the phase begun last ends now."""
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
