"""When a checkpoint is due by the clock."""

from __future__ import annotations

import time


class SaveClock:
    """Keeps what a kill may cost below `every` seconds of training; 0: nothing is ever due.

    What a kill costs reaches from the state that one checkpoint holds to the end of writing the next one.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._saved_at = self._asked_at = time.monotonic()

    def saved(self) -> None:
        """The state of this moment goes into a checkpoint."""
        self._saved_at = time.monotonic()

    def due(self, write_seconds: float | None) -> bool:
        """Whether to save now. To be asked after every step.

        write_seconds: how long the last write took; None before the first. If saving were put off now, one more step
        would pass and then the write. Twice their time is kept free for them, as both vary, but at most half of all;
        and half of all before a first write has shown how long it takes.
        """
        now = time.monotonic()
        step, self._asked_at = now - self._asked_at, now
        reserve = self._every / 2
        if write_seconds is not None:
            reserve = min(reserve, 2 * (step + write_seconds))
        return bool(self._every) and now - self._saved_at + reserve >= self._every
