from __future__ import annotations

import contextlib
import os
import signal

import pytest

from wrn.errors import Interrupted
from wrn.training.stop import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_save_it_stops_at_once(number: signal.Signals) -> None:
    """As while data is downloaded, which may take an hour."""
    words = f"stopped by {number.name} before the first step; run the same command again"
    with pytest.raises(Interrupted, match=words), StopSignal():
        os.kill(os.getpid(), number)


def test_with_work_to_save_it_is_recorded_and_a_second_ctrl_c_stops_at_once() -> None:
    with StopSignal() as stop:
        stop.there_is_work = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_leaves_time_to_save() -> None:
    """torchrun forwards signals that its whole process group has already received."""
    with StopSignal() as stop:
        stop.there_is_work = True
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.received == "SIGTERM"


def test_a_stop_that_was_swallowed_is_remembered() -> None:
    with StopSignal() as stop:
        stop.check()
        with contextlib.suppress(Exception):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped by SIGTERM before the first step"):
            stop.check()
