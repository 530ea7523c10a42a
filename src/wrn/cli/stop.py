"""`wrn stop`: end a job early; it saves a checkpoint, from which `wrn resume` goes on."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence

from wrn.aws.jobs import describe, stop
from wrn.aws.session import Session
from wrn.cli.aws_flags import aws_parser, where, with_session
from wrn.errors import DONE


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser("stop", "Stop a running job; it saves a checkpoint first.", "JOB [--region R] [--json]")
    parser.add_argument("job", metavar="JOB", help="its name; `wrn jobs` lists them")
    options = parser.parse_args(arguments)
    return with_session(options, stop_job)


def stop_job(options: Namespace, session: Session) -> int:
    job = describe(session, options.job)
    asked = stop(session, job)
    if options.json:
        sys.stdout.write(json.dumps({"job": job.name, "stopped_now": asked, "status_before": job.status}) + "\n")
    elif asked:
        sys.stderr.write(
            f"{job.name} is stopping: it has two minutes to save; `wrn resume {job.name}{where(session)}` goes on from "
            "there\n"
        )
    else:
        sys.stderr.write(f"{job.name} is {job.status.lower()} already\n")
    return DONE
