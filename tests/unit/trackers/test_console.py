from __future__ import annotations

import os
from pathlib import Path

import pytest

from wrn.text import clock as clock_text
from wrn.trackers.console import PlainReporter, RichReporter, make_reporter
from wrn.trackers.events import SilentReporter
from wrn.trackers.tensorboard import TensorBoardReporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [1000.0]
    monkeypatch.setattr("wrn.trackers.console.time.monotonic", lambda: now[0])
    return now


def test_growing_images_are_accounted_for(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
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
        assert task.fields["left"] == clock_text(399 + 4 * 500)
        assert "step 61 of 1,000: 200.0 images/s, about 41 min left" in capsys.readouterr().out
    finally:
        rich.close()


def test_the_epoch_line_has_the_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainReporter(((16, 0.5), (32, 0.5)))
    plain.begin(100, 0, 50)
    for step in range(50):
        clock[0] += 1
        plain.step(step, 0.1, 200)
    plain.epoch({"epoch": 1, "epochs": 2, "seconds": 50.0})
    assert capsys.readouterr().out.splitlines()[-1] == f"epoch=1 epochs=2 seconds=50.0000 seconds_left={50 * 4}"


def test_a_long_epoch_reports_progress(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.begin(1000, 0, 100)
    clock[0] += 50  # the first step compiles, so its time is not typical
    for step in range(100):
        reporter.step(step, 0.1, 200)
        clock[0] += 20
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "step 4 of 1,000: 10.0 images/s, about 5 h 32 min left",
        "step 34 of 1,000: 10.0 images/s, about 5 h 22 min left",
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
        assert task.fields["left"] == clock_text(992 * seconds)
    finally:
        reporter.close()


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (40, "epoch 101/200 0:39:59 left top-1 25.0%"),
        (60, "epoch 101/200 ━━━━━      0:39:59 left top-1 25.0%  loss 1.50"),
        (80, "epoch 101/200 ━━━━━      0:39:59 left top-1 25.0%  loss 1.50  1,000,000 img/s"),
        (120, "epoch 101/200 ━━━━━      0:39:59 left top-1 25.0%  loss 1.50  1,000,000 img/s  lr 0.0123"),
    ],
)
def test_a_narrow_terminal_shows_the_most_important_figures(
    columns: int, shown: str, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    reporter = RichReporter()
    reporter._progress.get_time = lambda: clock[0]
    try:
        reporter.begin(4800, 2398, 24)
        row = {"epoch": 99, "train_loss": 1.5, "train_top1": 0.5, "images_per_s": 10.0, "seconds": 1.0}
        reporter.epoch({**row, "test_top1": 0.25, "test_top5": 0.75})
        for step in range(2398, 2400 + 1):
            clock[0] += 1
            reporter.step(step, 0.0123, 1_000_000)
        with reporter._console.capture() as capture:
            reporter._console.print(reporter._progress.get_renderable())
        assert capture.get().rstrip() == shown
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


def test_a_download_is_reported_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    for done in range(0, 201):
        reporter.download(done * 10**6, 200 * 10**6)
    assert capsys.readouterr().out.splitlines() == [f"downloaded {done} of 200 MB" for done in range(20, 201, 20)]


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_live_view_shows_the_split_that_was_scored(split: str, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = RichReporter()
    row = {"epoch": 1, "train_loss": 1.5, "train_top1": 0.5, "images_per_s": 10.0, "seconds": 1.0}
    reporter.epoch({**row, f"{split}_top1": 0.25, f"{split}_top5": 0.75})
    assert f"{split} top-1 25.00%  top-5 75.00%" in capsys.readouterr().out


def test_brackets_in_a_note_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    RichReporter().note("resumed from runs/[bold]/[/x]")
    assert capsys.readouterr().out == "resumed from runs/[bold]/[/x]\n"


def test_a_log_is_plain_and_has_each_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w", encoding="utf-8") as log, os.fdopen(reading, "rb") as reader:
        monkeypatch.setattr("sys.stdout", log)
        reporter = make_reporter("auto")
        assert isinstance(reporter, PlainReporter)
        reporter.note("hello")
        assert reader.read() == b"hello\n"


def test_tensorboard_has_all_figures_when_the_run_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="needs the extra tensorboard")
    written: list[object] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, *arguments: object) -> None:
            written.append(arguments)

        def close(self) -> None:
            written.append("closed")

    monkeypatch.setattr(tensorboard, "SummaryWriter", Writer)
    told = TensorBoardReporter(SilentReporter(), tmp_path)
    told.begin(18, 0, 2)
    told.epoch({"dataset": "x", "epoch": 2, "epochs": 9, "step": 8, "lr": 0.5, "test_top1": 0.25})
    told.close()
    assert written == [("lr", 0.5, 2), ("test_top1", 0.25, 2), "closed"]
