"""`wrn status`: where a job stands right now."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from wrn.aws.account.errors import NotThere
from wrn.aws.account.names import LOG_GROUP
from wrn.aws.account.session import Session
from wrn.aws.jobs.failures import advice_for
from wrn.aws.jobs.follow import State
from wrn.aws.jobs.freshness import checkpoint_freshness
from wrn.aws.jobs.job import Job, describe
from wrn.aws.jobs.logs import LogEvent
from wrn.aws.jobs.progress import Money, Progress, interruptions, money, phase_text, phases, spot_savings
from wrn.cli.aws_flags import aws_parser, where, with_session
from wrn.cli.follow_views import clock, figures_text, money_text, phase_line, price_json
from wrn.cli.report import table
from wrn.errors import DONE, AwsError
from wrn.strict_json import to_json
from wrn.text import duration

LAST_LINES = 2000
"""Read from the end of each stream: enough for the last epochs, whatever else was written."""


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser("status", "Show where a job stands.", "JOB [--region R] [--json]")
    parser.add_argument("job", metavar="JOB", help="name of the job; `wrn jobs` lists them")
    options = parser.parse_args(arguments)
    return with_session(options, show)


def show(options: Namespace, session: Session) -> int:
    job = describe(session, options.job)
    progress = Progress()
    progress.take(last_lines(session, job))
    now = time.time()
    state = State(job, progress, money(job, now), now)
    try:
        state.freshness = checkpoint_freshness(session, job, progress)
    except AwsError as error:
        state.warnings.append(f"cannot tell whether checkpoints arrive in S3: {error}")
    if state.freshness is not None and state.freshness.is_late:
        state.warnings.append(state.freshness.warning)
    if options.json:
        sys.stdout.write(to_json(as_json(state), indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in as_lines(state, where(session))))
    return DONE


def last_lines(session: Session, job: Job) -> list[LogEvent]:
    """The last lines of all the job's streams, by time."""
    events: list[LogEvent] = []
    try:
        request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job.name}/"}
        for stream in session.pages("logs", "DescribeLogStreams", "logStreams", request):
            name = stream["logStreamName"]
            where = {"logGroupName": LOG_GROUP, "logStreamName": name, "startFromHead": False, "limit": LAST_LINES}
            answer = session.call("logs", "GetLogEvents", where)
            events += [LogEvent(name, event["timestamp"], event["message"]) for event in answer["events"]]
    except NotThere:
        pass  # the job has not written anything yet
    return sorted(events, key=lambda event: event.timestamp)


def as_json(state: State) -> dict[str, Any]:
    job, fresh = state.job, state.freshness
    return {
        "job": job.name,
        "status": job.status,
        "secondary_status": job.secondary,
        "doing": phase_text(job),
        "failure": job.failure or None,
        "advice": advice_json(job),
        "instance_type": job.instance_type,
        "instances": job.instances,
        "spot": job.spot,
        "created": job.created,
        "ended": job.ended,
        "phases": [
            {"status": phase.status, "message": phase.message, "start": phase.start, "end": phase.end}
            for phase in phases(job)
        ],
        "interruptions": interruptions(job),
        "progress": state.progress.as_dict(state.now),
        "cost_usd": state.money.so_far,
        "cost_is_estimated": state.money.estimated,
        "ceiling_usd": state.money.ceiling,
        "price": price_json(state.money),
        "billable_seconds": job.billable_seconds,
        "training_seconds": job.training_seconds,
        "spot_savings": spot_savings(job),
        "checkpoints": job.checkpoints or None,
        "newest_checkpoint_age_seconds": fresh.age if fresh else None,
        "model": job.model or None,
        "warnings": state.warnings,
    }


def as_lines(state: State, place: str = "") -> list[str]:
    job = state.job
    until = job.ended or state.now
    took = f"{'took' if job.is_over else 'running for'} {duration(until - job.created)}"
    rows = [
        ("job", job.name),
        ("state", phase_text(job)),
        ("instances", f"{job.instances} x {job.instance_type}{', spot' if job.spot else ''}"),
        (
            "started",
            f"{clock(job.created)}, {took}",
        ),
    ]
    if state.progress.figures:
        rows.append(("progress", ", ".join(figures_text(state))))
    rows.append(("cost", money_text(state.money, over=job.is_over) + _by_which_price(state.money)))
    if (saved := spot_savings(job)) is not None:
        rows.append(("spot saved", f"{saved:.0%}"))
    if job.checkpoints:
        age = state.freshness.age if state.freshness else None
        rows.append(("checkpoints", job.checkpoints + (f", newest {duration(age)} old" if age is not None else "")))
    if job.failure:
        rows.append(("failed", " ".join(job.failure.split())))
    if (advice := advice_for(job)) is not None:
        rows += [("cause", advice.cause), ("fix", advice.fix)]
    lines = [*table(rows).split("\n"), "", *(f"  {phase_line(phase)}" for phase in phases(job)), ""]
    lines += [f"warning: {text}" for text in state.warnings]
    return [*lines, f"next: {next_step(job, place)}"]


def _by_which_price(costs: Money) -> str:
    estimated = ", with an assumed spot price" if costs.estimated else ""
    if not costs.foreign:
        return estimated
    return f"{estimated}, at the US price: that of {costs.foreign} was not recorded with the job"


def advice_json(job: Job) -> dict[str, str | None] | None:
    """Why the job failed; None if it did not."""
    advice = advice_for(job)
    if advice is None:
        return None
    return {
        "kind": advice.kind,
        "cause": advice.cause,
        "fix": advice.fix,
        "instance_type": advice.instance_type or None,
    }


def next_step(job: Job, place: str = "", *, log_is_shown: bool = False) -> str:
    """The command to go on with; resuming is named only where it can help.

    place: the flags that point a command at the same account and region.
    """
    if not job.is_over:
        return f"wrn logs -f {job.name}{place}"
    if job.status == "Completed":
        return f"wrn fetch {job.name} --output-dir runs/{job.name}{place}"
    advice = advice_for(job)
    if advice is None or advice.again == "resume":
        larger = f" --instance-type {advice.instance_type}" if advice and advice.instance_type else ""
        return f"wrn resume {job.name}{larger}{place}"
    if advice.again == "log" and not log_is_shown:
        return f"wrn logs {job.name}{place}"
    return "wrn deploy again, with that changed"
