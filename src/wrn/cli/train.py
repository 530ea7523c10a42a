"""`wrn train`, which `python src/train.py` and SageMaker's container call too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wrn.cli.report import percent
from wrn.config.flags import Parser, add_config_flags, parse_config
from wrn.config.paths import failure_file
from wrn.distributed.environment import hyperparameter_flags, place
from wrn.errors import DONE, Interrupted
from wrn.text import duration, shell_command
from wrn.training.stop import StopSignal

if TYPE_CHECKING:
    from wrn.training.run import Result


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="wrn train",
        description="Train a network, or resume an interrupted run.",
        allow_abbrev=False,
        usage="wrn train [--recipe NAME|FILE] [--KEY VALUE ...]",
    )
    add_config_flags(parser)
    try:
        with StopSignal() as stop:  # importing torch and looking for a GPU take seconds
            arguments = list(arguments) or hyperparameter_flags()
            resolved = parse_config(parser, arguments)
            from wrn.distributed.launcher import launch, several_processes
            from wrn.training.parts import SYNTHETIC
            from wrn.training.run import train

            stop.check()  # torch swallows exceptions raised inside some of its optional imports
            torchrun = several_processes(resolved.config, arguments)
            if torchrun:
                return launch(torchrun)
            if place().local_rank == 0 and (old := failure_file()) is not None:
                old.unlink(missing_ok=True)
            result = train(resolved, stop)
    except Interrupted:
        raise
    except Exception as error:
        leave_reason(failure_file(), error)
        raise
    if place().rank:
        return DONE
    scores = result.scores.plain
    lines = [
        f"done in {time_taken(result)}: test top-1 {percent(scores.top1)}, top-5 {percent(scores.top5)}, "
        f"loss {scores.loss:.3f}, on {scores.images:,} {result.dataset} images",
    ]
    if result.scores.mirrored is not None:
        lines.append(f"with mirrored test-time augmentation: top-1 {percent(result.scores.mirrored.top1)}")
    if result.dataset == "synthetic":
        lines.append(SYNTHETIC)
    lines += [f"run: {result.run}", f"next: {shell_command('wrn', 'predict', '--model-dir', result.model, 'IMAGE')}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return DONE


def time_taken(result: Result) -> str:
    """How long it took: this start, and all of the training if this start resumed it or found it finished."""
    here, training = duration(result.seconds), duration(result.training_seconds)
    if not result.resumed:
        return here
    if result.took_steps:
        return f"{here} after resuming ({training} of training in total)"
    return f"{here}, already trained ({training})"


def leave_reason(path: Path | None, error: Exception) -> None:
    """Tell SageMaker why the job failed: it shows the first 1,024 characters of this file.

    With several processes, the first one to fail has the cause.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{type(error).__name__}: {error}"[:1024])
    except OSError:
        pass  # a reason is there already, or the file cannot be written; standard error has the message too
