from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from wrn.errors import Interrupted
from wrn.signals import STOP_SIGNALS
from wrn.training.stop import StopSignal


@pytest.fixture(autouse=True)
def _no_nohup() -> Iterator[None]:
    """Also where these tests themselves run under nohup, which StopSignal would respect."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOP_SIGNALS)
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


@pytest.mark.parametrize("number", sorted({*STOP_SIGNALS} - {signal.SIGINT}))
def test_a_second_one_that_is_no_ctrl_c_leaves_time_to_save(number: signal.Signals) -> None:
    """torchrun forwards signals that its whole process group has already received."""
    with StopSignal() as stop:
        stop.there_is_work = True
        for _ in range(2):
            os.kill(os.getpid(), number)
            assert stop.received == number.name


@pytest.mark.parametrize(("rank", "received"), [(None, None), ("0", "SIGHUP")])
def test_a_closed_terminal_is_ignored_under_nohup_unless_torchrun_forwards_it(
    rank: str | None, received: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            stop.there_is_work = True
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.received == received
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_was_swallowed_is_remembered() -> None:
    with StopSignal() as stop:
        stop.check()
        with contextlib.suppress(Exception):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped by SIGTERM before the first step"):
            stop.check()
