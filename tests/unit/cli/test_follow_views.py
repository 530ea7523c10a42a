"""How a followed job is shown: safe for the terminal, complete in every view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_job import START, FakeJob, epoch_line
from wrn.aws.jobs.follow import State
from wrn.aws.jobs.job import Job
from wrn.aws.jobs.logs import LogEvent
from wrn.aws.jobs.progress import Money, Phase, Progress, money
from wrn.cli.follow_views import JsonView, PlainView, RichView, clean, money_text, phase_line

LINES = ["fresh start: no checkpoint in /opt/ml/checkpoints", epoch_line(1), epoch_line(2, top1=0.25)]


def test_a_log_cannot_steer_the_terminal() -> None:
    assert clean("\x1b[2J\x1b]0;title\x07red\x1b[31m\r\n") == "]0;titlered"
    assert clean("a\tb\x9b31m") == "a\tb31m"


def test_money_in_words() -> None:
    assert money_text(Money(0.4, 5.0, True, None)) == "about $0.40 so far, at most $5.00"
    assert money_text(Money(0.4, None, False, None)) == "$0.40 so far"
    assert money_text(Money(0.4, 5.0, False, None), over=True) == "$0.40 of at most $5.00"
    assert money_text(Money(None, None, False, None)) == "price not known"


@pytest.mark.parametrize("make", [PlainView, JsonView, RichView])
def test_all_views_show_everything(make: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeJob(spot=True)
    fake.enter("Training")
    job, progress = Job(fake.answer), Progress()
    events = [LogEvent("wrn-a/algo-1-1", int(1000 * START), line) for line in LINES]
    view = make()
    view.phase(Phase("Training", "training", "it goes.", START, None))
    view.lines(events, True)
    for figures in progress.take(events):
        view.epoch(figures)
    view.warn("checkpoints do not arrive")
    view.state(State(job, progress, money(job, START + 60), START + 60))
    view.close()
    shown = "".join(capsys.readouterr())
    for words in ("fresh start", "training", "checkpoints do not arrive", "algo-1"):
        assert words in shown


def test_a_reason_of_many_lines_stays_one_line() -> None:
    phase = Phase("Failed", "failed", "AlgorithmError: no such\n\x1b[31mthing\n, exit code: 1", START, None)
    assert phase_line(phase).endswith("failed (AlgorithmError: no such thing , exit code: 1)")
