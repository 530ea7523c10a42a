"""`wrn deploy --local`: run the job on this machine, without an AWS account and without Docker."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wrn.aws.jobs.launch import with_key
from wrn.aws.jobs.options import limits
from wrn.aws.jobs.request import training_job
from wrn.aws.local.local_job import LOG, Rehearsal
from wrn.aws.local.runner import GRACE, Outcome
from wrn.aws.local.sandbox import best_isolation
from wrn.cli.deploy import Task, with_data
from wrn.cli.deploy_report import code_line
from wrn.cli.report import say
from wrn.errors import DONE, INTERRUPTED, AwsError
from wrn.strict_json import to_json
from wrn.text import duration, shell_command

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals treated like StopTrainingJob; a second one ends the job at once. Windows lacks some of them."""


def rehearse(task: Task) -> int:
    """Run the job, showing its output as it comes. Raises AwsError, with the reason, if it fails."""
    task, data = with_data(task)
    options = with_key(task.options, data)
    folder = task.flags["local_dir"] or Path("runs/local", options.name)
    job = Rehearsal(
        request=training_job(task.config, task.base, task.recipe, options),
        folder=folder,
        code=task.bundle,
        data=data,
        region=options.region,
        show=lambda host, line: None,
        tell=lambda text: say(f"-- {text}"),
        interruptions=task.wishes.interruptions,
        grace=GRACE,
    )
    job.show = _shower(job, to_stderr=task.flags["json"], hosts=options.instance_count)
    job.claim()
    how = "as process 1 with its own /opt/ml" if best_isolation() == "namespaces" else "in a folder instead of /opt/ml"
    say(f"{options.name} runs on this machine, {how}; nothing is sent to AWS. Everything is in {folder}")
    for line in (code_line(task.bundle), *task.changes):
        say(line)
    if options.network_isolation:
        say("network_isolation: is not simulated; the job uses this machine's network")
    try:
        with stopping(job):
            outcome = job.run()
    except KeyboardInterrupt:
        say(kept(job))
        raise
    if task.flags["json"]:
        sys.stdout.write(to_json(as_json(options.name, job, outcome), indent=2) + "\n")
    if outcome.status == "Failed":
        raise AwsError(
            f"{options.name}: failed: {outcome.reason}\nthe log is {folder / LOG}; the job's folders are in {folder}"
        )
    if not task.flags["json"]:
        sys.stdout.write("\n".join(told(task, job, outcome)) + "\n")
        sys.stdout.flush()
    return DONE if outcome.status == "Completed" else INTERRUPTED


def _shower(job: Rehearsal, *, to_stderr: bool, hosts: int) -> Any:
    stream = sys.stderr if to_stderr else sys.stdout

    def show(host: str, line: str) -> None:
        try:
            stream.write(f"{host}: {line}\n" if hosts > 1 else f"{line}\n")
            stream.flush()
        except BrokenPipeError:  # the reader is gone, as in `wrn deploy --local | head`
            job.stop()

    return show


@contextmanager
def stopping(job: Rehearsal) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal stop the job, which saves first; a second signal ends it at once."""

    def note(number: int, frame: Any) -> None:
        if job.stopped:
            raise KeyboardInterrupt
        job.stop()
        say(f"-- stopping: SIGTERM, and up to {job.grace:g} s to save, as on AWS; a second signal ends it at once")

    before = {name: signal.signal(getattr(signal, name), note) for name in STOPS if hasattr(signal, name)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def told(task: Task, job: Rehearsal, outcome: Outcome) -> list[str]:
    """How it ended, and what to do next."""
    ends = {
        "Completed": "completed",
        "Stopped": "stopped",
        "MaxRuntimeExceeded": f"stopped at its time limit of {duration(limits(task.options).runtime)}",
    }
    lines = [f"{job.request['TrainingJobName']}: {ends[outcome.status]} after {outcome.seconds:.0f} s of training"]
    model = job.folder / "model"
    if outcome.model is not None:
        lines.append(f"model: {model} ({outcome.model.stat().st_size / 1e6:.1f} MB as {outcome.model.name})")
    lines.append(f"log: {job.folder / LOG}")
    if outcome.status != "Completed":
        return [*lines, kept(job)]
    where = ["--data-dir", str(task.config.data_dir)] if task.config.data_dir else []
    return [*lines, f"next: {shell_command('wrn', 'evaluate', '--model-dir', model, *where)}"]


def kept(job: Rehearsal) -> str:
    """Where the checkpoints are, if any."""
    if not job.has_checkpoints:
        return "no checkpoint was saved; the same command starts from scratch"
    return f"checkpoints: {job.checkpoints}; to resume, repeat the command with --local-dir {shell_command(job.folder)}"


def as_json(name: str, job: Rehearsal, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": name,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "reason": outcome.reason or None,
        "training_seconds": round(outcome.seconds, 1),
        "folder": str(job.folder),
        "model": str(job.folder / "model") if outcome.model else None,
        "checkpoints": str(job.checkpoints) if job.has_checkpoints else None,
        "log": str(job.folder / LOG),
    }
