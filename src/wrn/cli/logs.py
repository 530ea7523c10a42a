"""`wrn logs`: the log of a job; with -f the job is followed until it ends. Also behind `wrn deploy --monitor`."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from wrn.aws.account.session import Session
from wrn.aws.account.waiting import WATCH
from wrn.aws.catalog.prices import GIVEN
from wrn.aws.jobs.failures import failed
from wrn.aws.jobs.follow import LOOK_SECONDS, SETTLE_SECONDS, Follower
from wrn.aws.jobs.job import Job, describe, stop
from wrn.aws.jobs.logs import LogFollower
from wrn.aws.jobs.progress import Money, Progress, interruptions, money, spot_savings
from wrn.cli.aws_flags import at_terminal, aws_parser, where, with_session
from wrn.cli.follow_views import JsonView, PlainView, make_view, money_text, price_json
from wrn.cli.report import percent
from wrn.cli.status import advice_json, next_step
from wrn.errors import DONE, INTERRUPTED
from wrn.strict_json import to_json
from wrn.text import duration


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser("logs", "Show a job's log, or follow the job until it ends.", "JOB [-f] [--region R] [--json]")
    parser.add_argument("job", metavar="JOB", help="name of the job; `wrn jobs` lists them")
    parser.add_argument("-f", "--follow", action="store_true", help="follow until it ends; Ctrl-C leaves or stops it")
    options = parser.parse_args(arguments)
    return with_session(options, show)


def show(options: Namespace, session: Session) -> int:
    if options.follow:
        return follow_job(session, options.job, ceiling=None, json_lines=options.json)
    job = describe(session, options.job)
    log = LogFollower(session, job.name)
    events = log.drain()
    (JsonView() if options.json else PlainView()).lines(events, len(log.hosts) > 1)
    if not events:
        wait = "" if job.is_over else " yet; -f waits for it"
        sys.stderr.write(f"{job.name} ({job.secondary}) has written no log{wait}\n")
    return DONE


def follow_job(
    session: Session,
    name: str,
    *,
    ceiling: float | None,
    json_lines: bool = False,
    look: float = LOOK_SECONDS,
    settle: float = SETTLE_SECONDS,
) -> int:
    """Follow a job until it ends, or until someone leaves with Ctrl-C. Returns the exit code.

    ceiling: US dollars that it may cost at most, if known. Raises AwsError, with the reason, if the job failed.
    """
    view = make_view(json_lines)
    try:
        follower = Follower(session, name, view, ceiling=ceiling, look=look, settle=settle)
        with CtrlC(lambda: WATCH.is_late) as ctrl_c:
            while not _is_over(follower, ctrl_c):
                view.close()
                if ask_what_to_do(session, follower.job) == "leave":
                    return INTERRUPTED
                ctrl_c.clear()
                view = make_view(json_lines)
                follower.use(view)
    finally:
        view.close()
    return tell_end(follower, ceiling=ceiling, json_lines=json_lines, place=where(session))


def _is_over(follower: Follower, ctrl_c: CtrlC) -> bool:
    """Follow until the job is over, or until Ctrl-C."""
    try:
        return follower.run(ctrl_c.wait)
    except Leave:
        return False


class Leave(KeyboardInterrupt):
    """Ctrl-C while AWS does not answer a poll: the poll is given up, and can be repeated."""


class CtrlC:
    """Handles the first Ctrl-C between two polls, so that no line is cut off; the second interrupts at once.

    is_late: whether a poll gets no answer. Then the first Ctrl-C raises Leave.
    """

    def __init__(self, is_late: Callable[[], bool] = lambda: False) -> None:
        self._is_late = is_late
        self._pressed = threading.Event()
        self._before: Any = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: Any) -> None:
        if self._pressed.is_set():
            raise KeyboardInterrupt
        self._pressed.set()
        if self._is_late():
            raise Leave

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as Ctrl-C was pressed."""
        return self._pressed.wait(seconds)

    def clear(self) -> None:
        self._pressed.clear()


def ask_what_to_do(session: Session, job: Job) -> str:
    """After Ctrl-C: "leave" the job running, or "follow" it on, also while it stops."""
    place = where(session)
    again = f"`wrn logs -f {job.name}{place}` follows it again, `wrn stop {job.name}{place}` stops it"
    if not at_terminal():
        sys.stderr.write(f"{job.name} is left running; {again}\n")
        return "leave"
    sys.stderr.write(f"\n{job.name} is running. [l]eave it running, [s]top it, or keep [f]ollowing? [l] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        answer = ""
    if answer.startswith("s"):
        if stop(session, job):
            sys.stderr.write("stopping: it saves a checkpoint first, for up to two minutes\n")
        return "follow"
    if answer.startswith("f"):
        return "follow"
    sys.stderr.write(f"left running; {again}\n")
    return "leave"


def tell_end(follower: Follower, *, ceiling: float | None, json_lines: bool, place: str = "") -> int:
    """Report how the job ended and what comes next. Raises AwsError if it failed."""
    job = follower.job
    result = end_of_job(job, follower.state().progress, ceiling, place)
    if json_lines:
        sys.stdout.write(to_json({"type": "end", **result}) + "\n")
    elif job.status != "Failed":
        sys.stderr.write("".join(f"{line}\n" for line in end_lines(job, result)))
    if job.status == "Failed":
        error = failed(job)
        raise type(error)("\n".join([str(error), *bill_lines(job, result), f"next: {result['next']}"]))
    return DONE if job.status == "Completed" else INTERRUPTED


def end_of_job(job: Job, progress: Progress, ceiling: float | None, place: str = "") -> dict[str, Any]:
    """The figures of a job that is over. place: the flags for commands on it."""
    costs = money(job, job.ended or job.created, ceiling=ceiling)
    return {
        "job": job.name,
        "status": job.status,
        "secondary_status": job.secondary,
        "figures": progress.figures,
        "result": progress.result or None,
        "training_seconds": job.training_seconds,
        "billable_seconds": job.billable_seconds,
        "instances": job.instances,
        "cost_usd": costs.so_far,
        "cost_is_estimated": costs.estimated,
        "ceiling_usd": costs.ceiling,
        "price": price_json(costs),
        "spot_savings": spot_savings(job),
        "interruptions": interruptions(job),
        "failure": job.failure or None,
        "advice": advice_json(job),
        "next": next_step(job, place, log_is_shown=True),
    }


def end_lines(job: Job, result: dict[str, Any]) -> list[str]:
    """The figures of `end_of_job`, for people."""
    lines = [f"{job.name}: {'completed' if job.status == 'Completed' else f'stopped ({job.secondary})'}"]
    figures = result["figures"]
    scores = [
        f"{split} {name} {percent(figures[key])}"
        for split in ("val", "test")
        for name, key in (("top-1", f"{split}_top1"), ("top-5", f"{split}_top5"))
        if key in figures
    ]
    if result["result"]:
        lines.append(result["result"])  # in its own words: the final model may not be that of the last epoch
    elif scores:
        lines.append(f"epoch {figures['epoch']:.0f} of {figures['epochs']:.0f}: {', '.join(scores)}")
    return [*lines, *bill_lines(job, result), f"next: {result['next']}"]


def bill_lines(job: Job, result: dict[str, Any]) -> list[str]:
    """What the job cost, as far as it is known."""
    lines = []
    costs = money(job, job.ended or job.created, ceiling=result["ceiling_usd"])
    if job.billable_seconds is not None:
        many = f" on each of {job.instances} instances" if job.instances > 1 else ""
        lines.append(f"billed: {duration(job.billable_seconds)}{many}; {money_text(costs, over=True)}{_source(costs)}")
    elif job.status == "Failed":
        lines.append("billed: nothing" if costs.so_far == 0 else f"billed: {money_text(costs, over=True)}")
    saved = result["spot_savings"]
    if saved is not None:
        times = result["interruptions"]
        lines.append(f"spot saved {saved:.0%} of the cost, with {times} interruption{'' if times == 1 else 's'}")
    return lines


def _source(costs: Money) -> str:
    """The source of the price, in brackets."""
    if costs.price is None:
        return ""
    if costs.price.source == GIVEN:
        return " (at the given price)"
    other = f": not that of {costs.foreign}" if costs.foreign else ""
    return f" (list price of {costs.price.region}, {costs.price.source.date}{other})"
