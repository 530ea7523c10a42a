"""One command that starts as many processes as asked for: on SageMaker one for each GPU, elsewhere `--processes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import wrn
from wrn.config import Config
from wrn.config.launch import cluster, torchrun_arguments, under_torchrun
from wrn.errors import ConfigError

SHUTDOWN_SECONDS = "100"
"""How long torchrun lets processes save after SIGTERM; SageMaker allows 120 seconds before it kills everything."""


def several_processes(
    config: Config, arguments: Sequence[str], environ: Mapping[str, str] | None = None
) -> list[str] | None:
    """The command that trains with several processes, or None where this one process is all there is to be.

    Raises ConfigError when more processes are asked for than there are GPUs.
    """
    environ = os.environ if environ is None else environ
    if under_torchrun(environ):
        return None
    where = cluster(environ)
    gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    every_gpu = max(gpus, 1) if where is not None else 1
    count = every_gpu if config.processes == "auto" else config.processes
    if gpus and count > gpus:
        raise ConfigError(f"processes: {count} are more than the {gpus} GPUs here; give at most {gpus}")
    if count == 1 and (where is None or len(where.hosts) == 1):
        return None
    # By its path: the package need not be installed, and `-m wrn` would need it to be.
    program = Path(wrn.__file__).parent / "__main__.py"
    flags = torchrun_arguments(count, where)
    return [sys.executable, "-m", "torch.distributed.run", *flags, str(program), "train", *arguments]


def become(command: Sequence[str]) -> None:
    """Replace this process by the command: signals then reach torchrun, which passes them on to every process."""
    sys.stdout.flush()
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    os.execv(command[0], list(command))
