"""When a checkpoint is due by wall time."""

from __future__ import annotations

import time


class SaveClock:
    """Keeps the cost of a kill below `every` seconds of training; with 0, nothing is ever due.

    A kill costs at most the time from one checkpoint's state to the end of writing the next.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self.start()

    def start(self) -> None:
        """Start counting from now."""
        self._saved_at = self._asked_at = time.monotonic()

    def saved(self) -> None:
        """The state of this moment goes into a checkpoint."""
        self._saved_at = time.monotonic()

    def due(self, write_seconds: float | None) -> bool:
        """Whether to save now. To be called after every step.

        write_seconds: how long the last write took; None before the first. If this step does not save, another step
        and a write come before the state is safe: twice their time is reserved, as both vary, up to half the interval.
        Before the first write, half the interval is reserved.
        """
        now = time.monotonic()
        step, self._asked_at = now - self._asked_at, now
        reserve = self._every / 2
        if write_seconds is not None:
            reserve = min(reserve, 2 * (step + write_seconds))
        return bool(self._every) and now - self._saved_at + reserve >= self._every
