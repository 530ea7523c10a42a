"""Requests to stop. SIGTERM or a first Ctrl-C ends a run after the present step; one that comes before the first step
ends it at once.

A Ctrl-C after either ends it at once, too: somebody has waited long enough. Another SIGTERM does not: a launcher passes
on what the whole group of processes has got already, and the run has to save yet.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from wrn.errors import Interrupted


class StopSignal:
    """Inside its `with` block, SIGTERM and SIGINT raise Interrupted, and once there is work to save are only noted.

    there_is_work: whether there is.
    received: the name of the signal, or None. Handlers can be set in the main thread only; elsewhere this does
    nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.there_is_work = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a stop was asked for: what a signal interrupted may have swallowed the exception."""
        if self.received is not None:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"stopped by {self.received} before the first step; start the same command again")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if not self.there_is_work:
            raise self._interrupted()
