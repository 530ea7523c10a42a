"""The `wrn` command: finds the subcommand, and turns exceptions into one sentence and an exit code.

Only the module of the chosen command is imported, so `wrn --help` answers at once.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NoReturn

from wrn import __version__
from wrn.errors import BUG, DONE, INTERRUPTED, USER, ConfigError, WrnError
from wrn.streams import drop, droppable_output, escape_output
from wrn.wrapping import entry, paragraph

GROUPS = {
    "Train and look": {
        "train": "train a network, or resume an interrupted run",
        "evaluate": "score a model directory on the test split",
        "predict": "classify pictures",
        "config": "print the resolved configuration, and where each value comes from",
        "bench": "measure speed on this machine: train, inference, data, checkpoint",
    },
    "Run on SageMaker": {
        "plan": "compare time and cost of a run on SageMaker instance types",
        "deploy": "train on AWS SageMaker; --dry-run prints every request, with no account and no network",
        "image": "build wrn's own training image and push it to the account's registry",
    },
    "Follow a job": {
        "jobs": "list your training jobs on SageMaker",
        "status": "show a job's phase, epoch, accuracy and cost",
        "logs": "show a job's log; -f follows the job until it ends",
        "stop": "stop a job; it saves a checkpoint first",
        "resume": "resume a job that ended early from its checkpoints, in a new job",
        "fetch": "download a job's model and records, verified",
    },
    "Clean up": {
        "costs": "show what wrn runs or stores on AWS, and what it costs",
        "teardown": "remove everything that wrn created on AWS; --dry-run only lists it",
    },
}
"""The commands by what a person wants to do. Each is a module of this package with a `main(arguments) -> exit code`."""

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}

ON_AWS = ("deploy", "jobs", "status", "logs", "stop", "resume", "fetch", "image", "costs", "teardown")
"""Commands that take --debug, which adds the traceback to an error."""

HAS_WORK = ("train",)
"""Commands whose result is not what they print: they go on where it cannot be printed any more."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n\n".join(
        "\n".join([f"{title}:", *(entry(name, text, width) for name, text in group.items())])
        for title, group in GROUPS.items()
    )
    rest = "wrn COMMAND --help shows a command's flags. Exit codes: 0 done, 1 a bug, 2 something you can fix, "
    return (
        f"wrn {__version__}: Wide ResNet-28-10 on CIFAR-100\n\n"
        f"usage: wrn COMMAND [FLAGS]\n\n{lines}\n\n"
        f"{paragraph(rest + '3 interrupted and resumable.')}\n"
    )


def _complain(text: str) -> None:
    """To stderr, if anybody reads it: in `wrn train 2>&1 | tee log`, Ctrl-C ends both. The exit code still counts."""
    with droppable_output():
        sys.stderr.write(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code for the shell."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    escape_output()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    label = f"wrn {name}" if name in COMMANDS else "wrn"
    try:
        code = _run_command(name, rest)
        sys.stdout.flush()  # while a full disk can still be reported
        return code
    except WrnError as error:
        if name in ON_AWS and "--debug" in rest:
            _complain(_trace())
        lines = str(error).split("\n") if str(error) else []
        _complain("".join(f"{label}: {line}\n" for line in lines))
        return error.exit_code
    except KeyboardInterrupt:
        _complain(f"{label}: stopped at once; what was already saved is kept\n")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and name not in HAS_WORK:
            # The reader of our output has exited (as in `wrn config | head`), which is not an error.
            for stream in (sys.stdout, sys.stderr):
                drop(stream)
            return DONE
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _complain(f"{label}: no space left on the output's disk; free some, then repeat the command\n")
            for stream in (sys.stdout, sys.stderr):
                drop(stream)
            return USER
        if isinstance(error, OSError):
            from wrn.cli.os_errors import sentence

            if (line := sentence(error, rest)) is not None:
                _complain(f"{label}: {line}\n")
                return USER
        _complain(f"{_trace()}{label}: this is a bug; please report the lines above with the command\n")
        return BUG


def _run_command(name: str, arguments: Sequence[str]) -> int:
    if name in ("", "-h", "--help", "help"):
        sys.stdout.write(usage())
        return DONE if name else USER
    if name in ("-V", "--version"):
        sys.stdout.write(f"wrn {__version__}\n")
        return DONE
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'; did you mean "wrn {close[0]}"?' if close else f"; choose from {', '.join(COMMANDS)}"
        sys.stderr.write(f'wrn: "{name}" is not a command{hint}\n')
        return USER
    check_working_directory()
    command = importlib.import_module(f"wrn.cli.{name}")
    with droppable_output() if name in HAS_WORK else nullcontext():
        return int(command.main(arguments))


def check_working_directory() -> None:
    """Raises ConfigError if it was deleted: then not even torch can be imported, and relative paths lead nowhere."""
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"the working directory was deleted or is out of reach ({error.strerror}); cd to an existing folder"
        ) from None


def _trace() -> str:
    import traceback  # slow to import

    return traceback.format_exc()


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main` as a program: exits with its exit code.

    If several processes train together, one that fails exits immediately. An ordinary exit would tear down gloo's
    threads while the process group is still open, which sometimes aborts (torch 2.13) and loses the exit code.
    """
    code = main(arguments)
    if code in (USER, BUG):
        from wrn.distributed.environment import under_torchrun  # slow to import: not for `wrn --help`

        if under_torchrun():
            _exit_now(code)
    waiting = sys.modules.get("wrn.aws.account.waiting")
    if waiting is not None and waiting.WATCH.is_late:
        _exit_now(code)  # an ordinary exit would wait for the threads that AWS does not answer
    sys.exit(code)


def _exit_now(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
