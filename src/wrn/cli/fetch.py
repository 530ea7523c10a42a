"""`wrn fetch`: a job's model and records, verified, in a folder laid out like that of a local run."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from wrn.aws.account.session import Session
from wrn.aws.jobs.fetch import fetch
from wrn.aws.jobs.job import describe
from wrn.cli.aws_flags import aws_parser, with_session
from wrn.cli.values import reachable
from wrn.errors import DONE
from wrn.strict_json import to_json
from wrn.text import shell_command


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "fetch", "Fetch a job's model and records.", "JOB [--output-dir D] [--force] [--region R] [--json]"
    )
    parser.add_argument("job", metavar="JOB", help="name of the job; `wrn jobs` lists them")
    parser.add_argument(
        "--output-dir", metavar="D", type=reachable, help="folder for model/, history.jsonl ... [runs/JOB]"
    )
    parser.add_argument("--force", action="store_true", help="replace the results of another job in the folder")
    options = parser.parse_args(arguments)
    return with_session(options, bring)


def bring(options: Namespace, session: Session) -> int:
    job = describe(session, options.job)
    target = options.output_dir or Path("runs", job.name)
    tell = _progress if not options.json and sys.stderr.isatty() else None
    result = fetch(session, job, target, force=options.force, tell=tell)
    if tell is not None:
        sys.stderr.write("\r\x1b[K")
    if options.json:
        told = {"job": job.name, "model": str(result.model), "files": result.files, "downloaded_bytes": result.bytes}
        sys.stdout.write(to_json(told, indent=2) + "\n")
    else:
        how = f"{result.bytes / 1e6:.1f} MB fetched and checked" if result.bytes else "already here, unchanged"
        sys.stdout.write(f"{result.model}: {how}\n")
        sys.stdout.write("".join(f"{note}\n" for note in result.notes))
        sys.stdout.write(f"next: {shell_command('wrn', 'evaluate', '--model-dir', result.model)}\n")
    return DONE


def _progress(name: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB\x1b[K")
    sys.stderr.flush()
