"""What a run shows: a live progress view on a terminal, one plain line per epoch elsewhere.

CloudWatch's metric regular expressions read the plain epoch lines; the field names are those of history.jsonl.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from wrn.config.stages import Stage
from wrn.text import clock, duration, figure
from wrn.trackers.eta import Remaining
from wrn.trackers.events import Reporter, SilentReporter

FIELDS = (
    "dataset",
    "epoch",
    "epochs",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "val_top5",
    "test_loss",
    "test_top1",
    "test_top5",
    "lr",
    "grad_norm",
    "images_per_s",
    "mfu",
    "memory_gb",
    "seconds",
)
"""The fields of a plain line, in this order; a row has only those that apply."""


ONE_SIZE: tuple[Stage, ...] = ((32, 1.0),)
"""Images of 32 px throughout."""

FIRST_WORD_S, NEXT_WORD_S = 60.0, 600.0
"""Seconds within an epoch until the plain reporter's first progress line, and between later ones."""


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the parts, from the first, as fit into `width` columns, two spaces apart."""
    ends = accumulate(len(part) + 2 for part in parts)
    return "  ".join(part for part, end in zip(parts, ends, strict=True) if end - 2 <= width)


class PlainReporter(SilentReporter):
    """One line per message and one `key=value` line per epoch, flushed at once; in a long epoch also its progress.

    stages: the run's image sizes, for the estimate of the time left.
    """

    def __init__(self, stages: Sequence[Stage] = ONE_SIZE) -> None:
        self._stages = stages
        self._remaining: Remaining | None = None
        self._tenth = 0
        self._total_steps = 0
        self._patience = FIRST_WORD_S
        self._last_word: float | None = None
        self._images = 0  # since the last word

    def note(self, message: str) -> None:
        sys.stdout.write(message + "\n")
        sys.stdout.flush()

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        self._total_steps = total_steps
        self._remaining = Remaining(self._stages, total_steps, first_step, steps_per_epoch, seconds)

    def step(self, step: int, lr: float, images: int) -> None:
        if self._remaining is not None:
            self._remaining.step(step)
        now, done = time.monotonic(), step + 1
        if self._last_word is None:  # the first step selects or compiles kernels, so count from its end
            self._last_word, self._images = now, 0
            return
        self._images += images
        since = self._last_word
        if now - since < self._patience:
            return
        seconds = self._remaining.seconds() if self._remaining is not None else None
        left = "" if seconds is None else f", about {duration(seconds)} left"
        self.note(f"step {done:,} of {self._total_steps:,}: {self._images / (now - since):,.1f} images/s{left}")
        self._last_word, self._images, self._patience = now, 0, NEXT_WORD_S

    def epoch(self, row: Mapping[str, Any]) -> None:
        words = [f"{key}={figure(row[key])}" for key in FIELDS if key in row]
        if self._remaining is not None:
            self._remaining.epoch(row.get("seconds"))
            left = self._remaining.seconds()
            words += [f"seconds_left={left:.0f}"] if left is not None else []
        self.note(" ".join(words))
        self._last_word = None

    def download(self, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > self._tenth:
            self.note(f"downloaded {done / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB")
        self._tenth = tenth


BAR, BAR_FROM = 10, 60
"""Columns of the live view's bar, and of the narrowest terminal that shows it: the figures matter more."""


class RichReporter:
    """A live view: a bar for the whole run, and above it a line per finished epoch.

    stages: the run's image sizes, for the estimate of the time left.
    """

    def __init__(self, stages: Sequence[Stage] = ONE_SIZE) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(highlight=False)
        self._bar = BAR if self._console.width >= BAR_FROM else 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            *([BarColumn(bar_width=self._bar)] if self._bar else []),
            TextColumn("[progress.remaining]{task.fields[left]}[/] left"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            refresh_per_second=4,
        )
        self._stages = stages
        self._remaining: Remaining | None = None
        self._task: Any = None
        self._download: Any = None
        self._steps_per_epoch = 1
        self._epochs = 0
        self._stepped = time.monotonic()
        self._latest: list[str] = []

    def note(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._epochs = total_steps // steps_per_epoch
        self._remaining = Remaining(self._stages, total_steps, first_step, steps_per_epoch, seconds)
        self._progress.start()
        self._task = self._progress.add_task(
            "training", total=total_steps, completed=first_step, figures="", left=clock(None)
        )

    def step(self, step: int, lr: float, images: int) -> None:
        took, self._stepped = time.monotonic() - self._stepped, time.monotonic()
        # Estimate the speed over several steps, however long they are.
        self._progress.speed_estimate_period = max(30.0, 5 * took)
        speed = next(task.speed for task in self._progress.tasks if task.id == self._task) or 0.0
        epoch, left = f"epoch {step // self._steps_per_epoch + 1}/{self._epochs}", clock(self._left(step))
        room = self._console.width - self._bar - len(f"{epoch}  {left} left ")
        figures = fitting([*self._latest, f"{speed * images:,.0f} img/s", f"lr {lr:.3g}"], room)
        self._progress.update(self._task, completed=step + 1, description=epoch, left=left, figures=figures)

    def _left(self, step: int) -> float | None:
        if self._remaining is None:
            return None
        self._remaining.step(step)
        return self._remaining.seconds()

    def epoch(self, row: Mapping[str, Any]) -> None:
        if self._remaining is not None:
            self._remaining.epoch(row.get("seconds"))
        split = "val" if "val_top1" in row else "test"
        self._latest = [f"loss {row['train_loss']:.2f}"]
        line = f"epoch {row['epoch']:>3}  train loss {row['train_loss']:.3f}  train top-1 {row['train_top1']:6.2%}"
        if f"{split}_top1" in row:
            self._latest.insert(0, f"top-1 {row[f'{split}_top1']:.1%}")
            line += f"  {split} top-1 {row[f'{split}_top1']:6.2%}  top-5 {row[f'{split}_top5']:6.2%}"
        self.note(f"{line}  {row['images_per_s']:,.0f} images/s  {row['seconds']:.1f} s")

    def download(self, done: int, total: int | None) -> None:
        if self._download is None:
            self._progress.start()
            self._download = self._progress.add_task("downloading", total=total, figures="", left=clock(None))
        task = next(task for task in self._progress.tasks if task.id == self._download)
        self._progress.update(
            self._download, completed=done, left=clock(task.time_remaining), figures=f"{done / 1e6:.0f} MB"
        )
        if total is not None and done >= total:
            self._progress.remove_task(self._download)
            self._download = None

    def close(self) -> None:
        self._progress.stop()


def make_reporter(progress: str, stages: Sequence[Stage] = ONE_SIZE) -> Reporter:
    """`rich` or `plain`; `auto` is rich on a terminal. stages: the run's image sizes."""
    if progress == "rich" or (progress == "auto" and sys.stdout.isatty()):
        return RichReporter(stages)
    return PlainReporter(stages)
