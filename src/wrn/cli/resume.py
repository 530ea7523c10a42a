"""`wrn resume`: a new job that resumes from the checkpoints of one that stopped, failed or ran out of time."""

from __future__ import annotations

import sys
import time
from argparse import SUPPRESS, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from wrn.aws.account.errors import NoAnswer
from wrn.aws.account.session import Session
from wrn.aws.account.validate import check_request
from wrn.aws.catalog.estimate import relative_time
from wrn.aws.jobs.failures import advice_for
from wrn.aws.jobs.job import Job, checkpoint_objects, describe
from wrn.aws.jobs.job import start as start_job
from wrn.aws.jobs.options import as_flag, holding_limit
from wrn.aws.jobs.progress import Money, Progress, money
from wrn.aws.jobs.resume import check_bucket, free_name, refuse_a_second, resume_request, tags_of
from wrn.cli.aws_flags import aws_parser, confirm, may_run, where, with_session
from wrn.cli.deploy_flags import time_limit
from wrn.cli.follow_views import price_words
from wrn.cli.status import last_lines
from wrn.cli.values import whole
from wrn.config.layers import resolve
from wrn.errors import DONE, AwsError, ConfigError
from wrn.strict_json import to_json
from wrn.text import duration


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "resume",
        "Start a new job that resumes from the checkpoints of another.",
        "JOB [--name N] [--instance-type T] [--max-runtime X] [--monitor] [--yes] [--dry-run] [--region R] [--json]",
    )
    parser.add_argument("job", metavar="JOB", help="the job to resume; `wrn jobs` lists them")
    parser.add_argument("--name", metavar="N", help="name of the new job [JOB-r2, JOB-r3, ...]")
    parser.add_argument("--instance-type", metavar="T", default="", help="another instance type [as before]")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--max-runtime", metavar="X", type=seconds, default=0, help="another time limit: 90m, 12h, 2d [as before]"
    )
    limit.add_argument("--max-minutes", dest="max_runtime", type=minutes, help=SUPPRESS)  # its earlier name
    parser.add_argument("--monitor", action="store_true", help="follow the new job until it ends")
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--dry-run", action="store_true", help="print the request as JSON and send nothing")
    options = parser.parse_args(arguments)
    return with_session(options, start)


def start(options: Namespace, session: Session) -> int:
    job = describe(session, options.job)
    name = options.name or free_name(session, job.name)
    kind = f"ml.{options.instance_type.removeprefix('ml.')}" if options.instance_type else ""  # as deploy takes it
    request = resume_request(
        job,
        tags_of(session, job),
        name,
        instance_type=kind,
        max_runtime=options.max_runtime,
        user=session.user,
    )
    check_request("sagemaker", "CreateTrainingJob", request)
    sys.stderr.write("".join(f"{line}\n" for line in too_long(request, training_left(session, job, request))))
    if options.dry_run:
        sys.stdout.write(to_json(request, indent=2) + "\n")
        return DONE
    check_bucket(session, job)
    refuse_a_second(session, job)
    found = checkpoint_objects(session, job)
    costs = most(request, job)
    ceiling = costs.ceiling
    begins = f"resumes from {job.checkpoints}" if found else f"starts from scratch: {job.checkpoints} is empty"
    price = f"for at most {duration(Job(request).max_runtime)}"
    price += ", at an unknown price" if ceiling is None else f" and ${ceiling:.2f}{price_words(costs)}"
    if doubt := would_fail_again(job, kind):
        sys.stderr.write(f"careful: {job.name} failed, and may fail again: {doubt}\n")
    question = f"{name} {begins}, {price}. Start it?"
    if not confirm(question, yes=options.yes, otherwise="give --yes, or --dry-run to only look"):
        raise AwsError("nothing was started; give --yes to skip the question")
    try:
        start_job(session, request)
    except (NoAnswer, KeyboardInterrupt):
        sys.stderr.write(f"{may_run(name, session)}\n")
        raise
    if options.json and not options.monitor:
        sys.stdout.write(to_json({"job": name, "resumes": job.name, "checkpoints": job.checkpoints}) + "\n")
    sys.stderr.write(f"{name} started; it {begins}, {price}\n")
    if options.monitor:
        from wrn.cli.logs import follow_job

        return follow_job(session, name, ceiling=ceiling, json_lines=options.json)
    sys.stderr.write(f"next: wrn logs -f {name}{where(session)}\n")
    return DONE


def training_left(session: Session, job: Job, request: Mapping[str, Any]) -> float | None:
    """Seconds of training left, by the log of the job before; on another instance type in proportion to the estimates
    of `wrn plan`. None if unknown."""
    progress = Progress()
    try:
        progress.take(last_lines(session, job))
        values = dict(job.hyperparameters)
        config = resolve(values.pop("recipe", None), values).config
    except (AwsError, ConfigError):
        return None  # without access to the log, or not a job of this version
    left = progress.seconds_left(job.ended or time.time())
    kind = request["ResourceConfig"]["InstanceType"]
    times = relative_time(config, job.instance_type, kind, session.region, today=date.today())
    return None if left is None or times is None else left * times


def too_long(request: Mapping[str, Any], left: float | None) -> list[str]:
    """A warning if the training that is left takes longer than the time limit, with one that would hold it."""
    limit = Job(request).max_runtime
    if left is None or left <= limit:
        return []
    return [
        f"careful: about {duration(left)} of training are left, but the job is stopped after {duration(limit)}, saved, "
        f"and has to be resumed again; give --max-runtime {as_flag(holding_limit(left))}"
    ]


def seconds(text: str) -> int:
    try:
        return time_limit(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} {error}") from None


def minutes(text: str) -> int:
    return 60 * whole(text)


def would_fail_again(job: Job, instance_type: str) -> str:
    """Why the same request would end as before; empty if it need not. instance_type: the one that was given."""
    advice = advice_for(job)
    if advice is None or (advice.again == "resume" and (instance_type or not advice.instance_type)):
        return ""
    other = f"; --instance-type {advice.instance_type} has more memory" if advice.instance_type else ""
    return f"{advice.cause}; {advice.fix}{other}"


def most(request: Mapping[str, Any], before: Job) -> Money:
    """The most that the job can cost, in the region of the one before."""
    return money(Job({**request, "TrainingJobArn": before.arn, "TrainingJobStatus": "InProgress"}), 0.0)
