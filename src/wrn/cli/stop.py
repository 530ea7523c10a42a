"""`wrn stop`: end a job early; it saves a checkpoint, from which `wrn resume` resumes."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from wrn.aws.account.session import Session
from wrn.aws.jobs.job import describe, release, stop
from wrn.cli.aws_flags import aws_parser, where, with_session
from wrn.errors import DONE
from wrn.strict_json import to_json
from wrn.text import duration


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "stop",
        "Stop a running job; it saves a checkpoint first. For a finished one: release the instances it keeps warm.",
        "JOB [--region R] [--json]",
    )
    parser.add_argument("job", metavar="JOB", help="name of the job; `wrn jobs` lists them")
    options = parser.parse_args(arguments)
    return with_session(options, stop_job)


def stop_job(options: Namespace, session: Session) -> int:
    job = describe(session, options.job)
    asked = stop(session, job)
    released = job.is_over and release(session, job)
    if options.json:
        told = {"job": job.name, "stopped_now": asked, "status_before": job.status, "machines_released": released}
        sys.stdout.write(to_json(told) + "\n")
    elif asked:
        sys.stderr.write(
            f"{job.name} is stopping: it has two minutes to save; `wrn resume {job.name}{where(session)}` resumes it\n"
        )
        if job.keep_warm:
            sys.stderr.write(
                f"careful: its instances may stay warm, and billed, for up to {duration(job.keep_warm)} after that; "
                f"`wrn stop {job.name}{where(session)}` releases them once it has stopped, as does `wrn teardown`\n"
            )
    else:
        and_now = "; the instances that it kept warm are released" if released else ""
        sys.stderr.write(f"{job.name} is {job.status.lower()} already{and_now}\n")
    return DONE
