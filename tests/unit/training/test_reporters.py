from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrn.training import reporters
from wrn.training.reporters import PlainReporter, RichReporter, SilentReporter, TensorBoardReporter, duration


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [1000.0]
    monkeypatch.setattr(reporters.time, "monotonic", lambda: now[0])
    return now


def test_durations_for_people() -> None:
    assert [duration(s) for s in (0, 89.4, 90, 5399, 5400, 172_799, 172_800)] == [
        *("0 s", "89 s", "2 min", "90 min", "1.5 h", "48.0 h", "2.0 days"),
    ]


def test_the_clock_of_the_live_view() -> None:
    assert [reporters.clock(s) for s in (None, 0, 309.4, 360_000)] == ["-:--:--", "0:00:00", "0:05:09", "100:00:00"]


def test_pictures_that_grow_are_foreseen(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the steps at 16 px, of 1 s each; at 32 px they will take 4 s."""
    stages = ((16, 0.5), (32, 0.5))
    plain, rich = PlainReporter(stages), RichReporter(stages)
    try:
        for reporter in (plain, rich):
            reporter.begin(1000, 0, 1000)
        for step in range(101):
            clock[0] += 1
            for reporter in (plain, rich):
                reporter.step(step, 0.1, 200)
        (task,) = rich._progress.tasks
        assert task.fields["left"] == reporters.clock(399 + 4 * 500)
        assert "step 61 of 1,000: 200.0 images/s, about 41 min left" in capsys.readouterr().out
    finally:
        rich.close()


def test_the_line_of_an_epoch_says_what_is_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainReporter(((16, 0.5), (32, 0.5)))
    plain.begin(100, 0, 50)
    for step in range(50):
        clock[0] += 1
        plain.step(step, 0.1, 200)
    plain.epoch({"epoch": 1, "epochs": 2, "seconds": 50.0})
    assert capsys.readouterr().out.splitlines()[-1] == f"epoch=1 epochs=2 seconds=50.0000 seconds_left={50 * 4}"


def test_a_long_epoch_says_how_far_it_is(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.begin(1000, 0, 100)
    clock[0] += 50  # the first step compiles: it says nothing of the others
    for step in range(100):
        reporter.step(step, 0.1, 200)
        clock[0] += 20
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "step 4 of 1,000: 10.0 images/s, about 5.5 h left",
        "step 34 of 1,000: 10.0 images/s, about 5.4 h left",
    ]
    assert len(said) == 4


def test_short_epochs_say_nothing_in_between(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.begin(300, 0, 10)
    for step in range(300):
        reporter.step(step, 0.1, 200)
        clock[0] += 5
        if step % 10 == 9:
            reporter.epoch({"epoch": step // 10 + 1})
    said = [line.split(" seconds_left=")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [f"epoch={epoch}" for epoch in range(1, 31)]


def test_the_live_view_trains_after_a_download() -> None:
    reporter = RichReporter()
    try:
        reporter.download(50, 100)
        reporter.download(100, 100)
        reporter.begin(100, 0, 10)
        for step in range(3):
            reporter.step(step, 0.1, 8)
        (task,) = reporter._progress.tasks
        assert (task.completed, task.total, task.description) == (3, 100, "epoch 1/10")
    finally:
        reporter.close()


def test_a_log_that_nobody_reads_any_more_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wrn train | tee log`: Ctrl-C ends tee at once, and the run has to save yet."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as broken:
        monkeypatch.setattr("sys.stdout", broken)
        reporter = PlainReporter()
        for epoch in (1, 2):
            reporter.epoch({"epoch": epoch})


@pytest.mark.parametrize("seconds", [0.5, 40.0, 300.0])
def test_the_live_view_knows_the_speed_of_long_steps(seconds: float, clock: list[float]) -> None:
    reporter = RichReporter()
    reporter._progress.get_time = lambda: clock[0]
    reporter.begin(1000, 0, 100)
    try:
        for step in range(8):
            clock[0] += seconds
            reporter.step(step, 0.1, 200)
        (task,) = reporter._progress.tasks
        assert f"{200 / seconds:,.0f} img/s" in task.fields["figures"]
        assert task.fields["left"] == reporters.clock(992 * seconds)
    finally:
        reporter.close()


def test_a_run_that_never_began_has_no_tensorboard_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "tensorboard"
    reporter = TensorBoardReporter(SilentReporter(), folder)
    reporter.note("the data is not to be had")
    reporter.close()
    assert not folder.exists()
    reporter = TensorBoardReporter(SilentReporter(), folder)
    reporter.begin(10, 0, 5)
    reporter.epoch({"epoch": 1, "train_loss": 2.5})
    reporter.close()
    (events,) = folder.iterdir()
    assert b"train_loss" in events.read_bytes()
