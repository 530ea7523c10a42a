"""Estimates the time left. Images may grow during a run, so later steps can cost more than those timed so far."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from wrn.config.stages import Stage, side_at, steps_by_side

LONG_ENOUGH_S = 5.0
"""A size is known once its steps were timed for this long: before that, the host may just be ahead of the GPU."""
REMEMBERED_S = 600.0
"""Beyond this much time at a size, older steps count half, so that the estimate follows a machine that slows down."""

Timed = Mapping[int, tuple[float, float]]
"""Number of steps and their seconds, by image side."""


def seconds_left(left: Mapping[int, int], timed: Timed) -> float | None:
    """Seconds for these numbers of steps at each side, from those timed so far; None before any was timed.

    A side that was not timed for long enough is assumed to cost as much per pixel as the nearest one that was.
    """
    known = {side: of for side, of in timed.items() if of[1] >= LONG_ENOUGH_S}
    if not known:
        known = {side: timed[side] for side in sorted(timed, key=lambda side: timed[side][1])[-1:]}
    if not known:
        return None
    total = 0.0
    for side, number in left.items():
        near = min(known, key=lambda other: (abs(math.log(other / side)), -other))
        steps, seconds = known[near]
        total += number * seconds / steps * (side / near) ** 2
    return total


class Remaining:
    """Times the steps and epochs of a run, and estimates the time left.

    The first step at a size selects or compiles kernels, so it is not counted. Time between epochs, mostly evaluation,
    is counted separately, as it does not grow with the training images.

    before: seconds that the first epoch's steps took in an earlier start of the run.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        total_steps: int,
        first_step: int,
        steps_per_epoch: int,
        before: float = 0.0,
    ) -> None:
        self._stages = stages
        self._total = total_steps
        self._per_epoch = steps_per_epoch
        self._left = Counter(steps_by_side(stages, first_step, total_steps))
        self._timed: dict[int, tuple[float, float]] = {}
        self._side = 0
        self._done = first_step
        self._stepped = time.monotonic()
        self._epoch_began = self._stepped - before
        self._between = 0.0
        self._epochs = 0  # that ended

    def step(self, step: int) -> None:
        """Step number `step` ended, or was at least issued to the device."""
        now, side = time.monotonic(), side_at(self._stages, step, self._total)
        if side == self._side:
            self._add(1, now - self._stepped)
        self._side, self._stepped, self._done = side, now, step + 1
        self._left[side] = max(0, self._left[side] - 1)

    def epoch(self, seconds: float | None) -> None:
        """An epoch ended; its steps took this many seconds on the device."""
        now = time.monotonic()
        if seconds is not None and self._stepped > self._epoch_began:
            if self._side in self._timed:
                self._add(0, max(0.0, self._epoch_began + seconds - self._stepped))
            self._between += max(0.0, now - self._epoch_began - seconds)
            self._epochs += 1
        self._epoch_began = self._stepped = now

    def seconds(self) -> float | None:
        """Until the last epoch ends, including evaluations; None before a step was timed."""
        steps = seconds_left(self._left, self._timed)
        if steps is None:
            return None
        epochs = math.ceil((self._total - self._done) / self._per_epoch)
        return steps + (epochs * self._between / self._epochs if self._epochs else 0.0)

    def _add(self, steps: int, seconds: float) -> None:
        before, took = self._timed.get(self._side, (0.0, 0.0))
        faded = 0.5 if took > REMEMBERED_S else 1.0
        self._timed[self._side] = (faded * before + steps, faded * took + seconds)
