"""Whether the checkpoints of a running job arrive in S3: only those survive a spot interruption.

SageMaker copies /opt/ml/checkpoints to S3 in the background. This copying is known to stall
(aws/sagemaker-python-sdk, issue 3062), which goes unnoticed until it is too late.
"""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.session import Session
from wrn.aws.jobs.job import Job, split_uri
from wrn.aws.jobs.progress import Progress, phases
from wrn.config.layers import resolve
from wrn.errors import WrnError
from wrn.text import duration

CHECKPOINT_MINUTES = 2.0
"""The default of the configuration's `checkpoint_minutes`."""

SLACK_SECONDS = 180
"""For writing a checkpoint and copying it: 300 MB for a WRN-28-10."""


@dataclass(frozen=True)
class Freshness:
    """age: seconds since the newest object was written, None if there is none. limit: the highest acceptable age, None
    if no checkpoints are due by time. waited: seconds since one could have been written."""

    age: float | None
    limit: float | None
    waited: float
    where: str

    @property
    def is_late(self) -> bool:
        return self.limit is not None and min(self.waited, self.waited if self.age is None else self.age) > self.limit

    @property
    def warning(self) -> str:
        found = "there are none yet" if self.age is None else f"the newest is {duration(self.age)} old"
        return (
            f"checkpoints do not arrive in {self.where}: {found}, and one was due every {duration(self.limit or 0)}; "
            "after an interruption the work since then would be lost. Check the log for errors, and the role's "
            "permission to write there"
        )


def checkpoint_freshness(session: Session, job: Job, progress: Progress) -> Freshness | None:
    """How old the newest checkpoint is. None if the job keeps none, or is not training right now."""
    told = phases(job)
    if not job.checkpoints or not told or told[-1].status != "Training":
        return None
    bucket, prefix = split_uri(job.checkpoints)
    request = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/"}
    now, newest = time.time(), None
    while True:
        answer = session.call("s3", "ListObjectsV2", request)
        # By S3's clock, which set the timestamps: this machine's clock may be wrong.
        now = _date(answer) or now
        for entry in answer.get("Contents") or ():
            written = entry["LastModified"].timestamp()
            newest = written if newest is None else max(newest, written)
        if not answer.get("IsTruncated"):
            break
        request["ContinuationToken"] = answer["NextContinuationToken"]
    # The first epoch line shows that training runs; before it, an image of some GB may still be downloading.
    began = max(told[-1].start, progress.began) if progress.began else now
    return Freshness(
        None if newest is None else max(0.0, now - newest),
        freshness_limit(job, progress),
        max(0.0, now - began),
        job.checkpoints,
    )


def freshness_limit(job: Job, progress: Progress) -> float | None:
    """Seconds: twice the time between checkpoints, plus slack for copying. None if none are due."""
    minutes = _setting(job, "checkpoint_minutes", CHECKPOINT_MINUTES)
    due = 60 * minutes if minutes else None
    epochs = _setting(job, "checkpoint_epochs", 0)
    if epochs and progress.epoch_seconds:
        due = min(due or float("inf"), epochs * progress.epoch_seconds)
    return None if due is None else 2 * due + SLACK_SECONDS


def _setting(job: Job, key: str, default: float) -> float:
    """A key of the job's configuration: from its hyperparameters, else from its recipe."""
    try:
        text = job.hyperparameters.get(key)
        return float(text.strip('"')) if text else float(getattr(resolve(_recipe(job), {}).config, key))
    except (ValueError, WrnError):
        return default  # a recipe that this clone does not have


def _recipe(job: Job) -> str | None:
    return (job.hyperparameters.get("recipe") or "").strip('"') or None


def _date(answer: dict[str, Any]) -> float | None:
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
