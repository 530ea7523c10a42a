"""Requests to stop. The first signal ends a run after the current step, or at once if no step has been taken.

A Ctrl-C after it ends the run at once: the user has waited long enough. Other signals do not: a launcher forwards
those that the whole process group has already received, and the run still has to save.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from wrn.distributed.environment import under_torchrun
from wrn.errors import Interrupted
from wrn.signals import STOP_SIGNALS, hangup_ignored


class StopSignal:
    """Inside its `with` block, STOP_SIGNALS raise Interrupted, or are only recorded once there is work to save.

    SIGHUP stays ignored if it is, as nohup asks for, but not under torchrun: what that forwards has to be obeyed.

    there_is_work: whether there is work to save.
    received: the name of the signal, or None.
    Only the main thread can set signal handlers; in other threads this does nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.there_is_work = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if number == signal.SIGHUP and hangup_ignored() and not under_torchrun():
                    continue
                self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a stop was requested: the interrupted code may have swallowed the exception."""
        if self.received is not None:
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(f"stopped by {self.received} before the first step; run the same command again")

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if not self.there_is_work:
            raise self._interrupted()
