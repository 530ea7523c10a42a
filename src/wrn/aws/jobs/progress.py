"""The progress of a job: its phases, metrics per epoch, cost so far. Pure functions of AWS's answers."""

from __future__ import annotations

import math
import re
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wrn.aws.catalog.prices import SPOT_SHARE, Price
from wrn.aws.jobs.job import Job, moment
from wrn.aws.jobs.logs import LogEvent
from wrn.aws.jobs.options import HOUR, STOP_SECONDS

EPOCH_LINE = re.compile(r"(?:^|\s)dataset=\S+ epoch=\d+ epochs=\d+ \S.*")
"""As `wrn train` prints it: `dataset=cifar100 epoch=3 epochs=100 train_loss=2.1000 ... images_per_s=2875.1000 ...`."""

RESUMED = re.compile(r"resumed from step (\d+) \(epoch (\d+)\)")
FRESH = "fresh start: no checkpoint in"
"""Training itself starts with this line or the one above."""

DONE = "done in "
"""Start of the last line: the metrics of the final model."""

WORDS = {
    "Pending": "waiting in the queue",
    "Starting": "starting",
    "LaunchingMLInstances": "starting",
    "PreparingTrainingStack": "starting",
    "Downloading": "downloading the data",
    "DownloadingTrainingImage": "downloading the image",
    "Training": "training",
    "Uploading": "uploading the model",
    "Interrupted": "interrupted: AWS took the spot instance back; waiting for another",
    "Restarting": "restarting after a platform error",
    "Updating": "updating",
    "Stopping": "stopping",
    "Stopped": "stopped",
    "Completed": "completed",
    "Failed": "failed",
    "MaxRuntimeExceeded": "stopped at its time limit",
    "MaxWaitTimeExceeded": "stopped: reached its limit on waiting for spot instances",
}

BILLED = frozenset(("Downloading", "DownloadingTrainingImage", "Training", "Uploading", "Stopping", "Updating"))
"""Phases that cost money: waiting for an instance is free."""


@dataclass(frozen=True)
class Phase:
    """What a job did from `start` to `end` (seconds since 1970; None: ongoing)."""

    status: str
    text: str
    message: str
    start: float
    end: float | None


def phases(job: Job) -> list[Phase]:
    """All of a job's phases in order; those after an interruption say so."""
    found: list[Phase] = []
    interruptions = 0
    for entry in job.transitions:
        status = str(entry["Status"])
        text = WORDS.get(status, status)
        if interruptions and status == "Starting":
            text = f"starting again, after {_times(interruptions, 'interruption')}"
        if interruptions and status == "Training":
            text = "training again: resumed"
        interruptions += status in ("Interrupted", "Restarting")
        start = moment(entry.get("StartTime")) or job.created
        found.append(Phase(status, text, str(entry.get("StatusMessage") or ""), start, moment(entry.get("EndTime"))))
    return found


def interruptions(job: Job) -> int:
    return sum(entry["Status"] == "Interrupted" for entry in job.transitions)


def phase_text(job: Job) -> str:
    """What the job is doing, in words."""
    told = phases(job)
    if told and told[-1].status == job.secondary:
        return told[-1].text
    return WORDS.get(job.secondary, job.secondary)


def parse_epoch(message: str) -> dict[str, float] | None:
    """The metrics of an epoch line by name, else None."""
    found = EPOCH_LINE.search(message)
    if found is None:
        return None
    figures = {}
    for pair in found[0].split():
        key, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            continue  # the name of the data set; a word after the line
        if math.isfinite(number):  # older versions of wrn could write nan
            figures[key] = number
    return figures


class Progress:
    """The progress of a run from its log: the newest epoch with its metrics, the time left, how often it resumed.

    figures: of the newest epoch line, empty before the first.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.resumed_at: list[int] = []
        self.began = 0.0
        """Seconds since 1970: when training started or resumed; 0 before that."""
        self.result = ""
        """The program's own last line."""
        self._at = 0.0
        self._durations: deque[float] = deque(maxlen=5)

    def take(self, events: Iterable[LogEvent]) -> list[dict[str, float]]:
        """Read lines; returns the metrics of the epochs among them."""
        epochs = []
        for event in events:
            if event.message.startswith(FRESH):
                self.began = event.timestamp / 1000
            if event.message.startswith(DONE):
                self.result = event.message.strip()
            if "epoch" not in event.message:
                continue
            if resumed := RESUMED.search(event.message):
                self.resumed_at.append(int(resumed[1]))
                self.began, self._at = event.timestamp / 1000, 0.0
            figures = parse_epoch(event.message)
            if figures is None:
                continue
            at = event.timestamp / 1000
            self.began = self.began or at
            # From line to line, so that evaluation and checkpoints count; not across an interruption.
            if self._at and figures["epoch"] == self.epoch + 1:
                self._durations.append(max(0.0, at - self._at))
            elif not self._durations and "seconds" in figures:
                self._durations.append(figures["seconds"])
            self._at = at
            self.figures = figures
            epochs.append(figures)
        return epochs

    @property
    def epoch(self) -> int:
        return int(self.figures.get("epoch", 0))

    @property
    def epochs(self) -> int:
        return int(self.figures.get("epochs", 0))

    @property
    def top1(self) -> tuple[str, float] | None:
        """The split and its top-1: of the validation split if there is one, else of the test split."""
        for split in ("val", "test"):
            if f"{split}_top1" in self.figures:
                return split, self.figures[f"{split}_top1"]
        return None

    @property
    def epoch_seconds(self) -> float | None:
        return statistics.fmean(self._durations) if self._durations else None

    def seconds_left(self, now: float) -> float | None:
        """Until the last epoch ends: as the last line says, else from the last five. `now`: seconds since 1970."""
        said = self.figures.get("seconds_left")
        if said is not None and self._at:
            # At most an epoch: a job that waits for an instance makes no progress.
            return max(0.0, said - min(max(0.0, now - self._at), self.epoch_seconds or 0.0))
        if self.epoch_seconds is None or not self.epochs:
            return None
        since = min(max(0.0, now - self._at), self.epoch_seconds) if self._at else 0.0
        return max(0.0, (self.epochs - self.epoch) * self.epoch_seconds - since)

    def as_dict(self, now: float) -> dict[str, Any]:
        return {
            **{key: int(value) if key in ("epoch", "epochs") else value for key, value in self.figures.items()},
            "seconds_left": self.seconds_left(now),
            "resumed_from_steps": list(self.resumed_at),
        }


@dataclass(frozen=True)
class Money:
    """US dollars so far and at most. None if the price is unknown. estimated: a spot price was assumed.

    foreign: the job's region, if its price is unknown and `price` is that of the US.
    """

    so_far: float | None
    ceiling: float | None
    estimated: bool
    price: Price | None
    foreign: str = ""


def money(job: Job, now: float, *, ceiling: float | None = None) -> Money:
    """The cost of the job up to `now`, at the price recorded with it, else at the bundled one.

    ceiling: what it may cost at most, if the caller knows; else it follows from the job's time limit.
    """
    price = job.price
    if price is None:
        return Money(None, ceiling, False, None)
    foreign = job.region if job.price_is_foreign else ""
    per_second = price.usd_per_hour * job.instances / HOUR
    if ceiling is None:
        ceiling = per_second * (job.max_runtime + STOP_SECONDS + job.keep_warm)
    if job.billable_seconds is not None:
        # SageMaker deducts the spot savings from the time, not from the price.
        return Money(per_second * (job.billable_seconds + job.warm_seconds), ceiling, False, price, foreign)
    spent = per_second * billed_seconds(phases(job), job.ended or now)
    return Money(spent * SPOT_SHARE if job.spot else spent, ceiling, job.spot, price, foreign)


def billed_seconds(told: Sequence[Phase], now: float) -> float:
    """Total duration of the billed phases, per instance."""
    return sum(max(0.0, (phase.end or now) - phase.start) for phase in told if phase.status in BILLED)


def spot_savings(job: Job) -> float | None:
    """The share of the cost that spot saved, as SageMaker computes it: 1 - billable / training. None if unknown."""
    if not job.spot or job.billable_seconds is None or not job.training_seconds:
        return None
    return 1 - job.billable_seconds / job.training_seconds


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
