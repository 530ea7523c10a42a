"""`wrn jobs`: the training jobs that this tool started."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from wrn.aws.account.session import Session
from wrn.aws.jobs.job import NEWEST, moment, our_jobs
from wrn.aws.jobs.progress import WORDS
from wrn.cli.aws_flags import aws_parser, with_session
from wrn.cli.report import table
from wrn.errors import DONE
from wrn.strict_json import to_json
from wrn.text import duration


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser("jobs", "List the training jobs that this tool started.", "[--running] [--region R] [--json]")
    parser.add_argument("--running", action="store_true", help="only jobs that are still running")
    options = parser.parse_args(arguments)
    return with_session(options, show)


def show(options: Namespace, session: Session) -> int:
    found = our_jobs(session)
    if options.running:
        found = [entry for entry in found if entry["TrainingJobStatus"] in ("InProgress", "Stopping")]
    if options.json:
        sys.stdout.write(to_json([as_json(entry) for entry in found], indent=2) + "\n")
    elif found:
        rows = [("JOB", "STATE", "STARTED", "TOOK")]
        sys.stdout.write(table([*rows, *map(_row, found)]) + "\n")
    else:
        sys.stderr.write(
            f"no {'running ' if options.running else ''}wrn job among the newest {NEWEST} in {session.region}; "
            "`wrn deploy` starts one, --region looks elsewhere\n"
        )
    return DONE


def as_json(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": entry["TrainingJobName"],
        "arn": entry["TrainingJobArn"],
        "status": entry["TrainingJobStatus"],
        "secondary_status": entry.get("SecondaryStatus"),
        "created": moment(entry["CreationTime"]),
        "ended": moment(entry.get("TrainingEndTime")),
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    told = as_json(entry)
    state = told["secondary_status"] or told["status"]
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(told["created"]))
    took = duration((told["ended"] or time.time()) - told["created"])
    return told["job"], WORDS.get(state, "running" if state == "InProgress" else state).partition(":")[0], started, took
