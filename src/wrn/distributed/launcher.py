"""Starts training with several processes: one per GPU on SageMaker, `--processes` elsewhere.

It runs torchrun inside this process: signals to this process reach all of them, and their exit code becomes its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import wrn
from wrn.config import Config
from wrn.distributed.environment import cluster, in_rehearsal, torchrun_arguments, under_torchrun
from wrn.errors import BUG, DONE, INTERRUPTED, USER, ConfigError, Interrupted
from wrn.model.machine import unusable_driver
from wrn.signals import STOP_SIGNALS, hangup_ignored

SHUTDOWN_SECONDS = "100"
"""How long processes may take to save after SIGTERM; SageMaker allows 120 seconds before it kills everything."""


def several_processes(
    config: Config, arguments: Sequence[str], environ: Mapping[str, str] | None = None
) -> list[str] | None:
    """The arguments of torchrun for these flags of `wrn train`, or None if one process suffices.

    Raises ConfigError if more processes are asked for than there are GPUs, or if a job cannot use its GPU.
    """
    environ = os.environ if environ is None else environ
    if config.device != "cpu" and cluster(environ) is not None and not in_rehearsal(environ):
        check_gpu()
    if under_torchrun(environ):
        return None
    where = cluster(environ)
    gpus = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    every_gpu = max(gpus, 1) if where is not None else 1
    count = every_gpu if config.processes == "auto" else config.processes
    if gpus and count > gpus:
        raise ConfigError(f"processes: {count} is more than the {gpus} GPUs here; give at most {gpus}")
    if count == 1 and (where is None or len(where.hosts) == 1):
        return None
    # By its path: the package need not be installed.
    program = Path(wrn.__file__).parent / "__main__.py"
    return [*torchrun_arguments(count, where), str(program), "train", *arguments]


def check_gpu() -> None:
    """Raises ConfigError if the machine has an NVIDIA driver that torch cannot use.

    On your own machine `auto` then means the CPU; on SageMaker that would be days on a CPU at a GPU's price.
    """
    if (reason := unusable_driver()) is not None:
        raise ConfigError(
            f"device: torch sees no CUDA device here ({reason}); give an --image-uri whose CUDA version this driver "
            "supports, or --device cpu"
        )


def launch(torchrun: Sequence[str]) -> int:
    """Start the processes and wait for them to finish; returns the exit code.

    STOP_SIGNALS are forwarded to them. To be called inside a StopSignal, for those that torchrun does not handle (yet).
    """
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    processes = int(next(flag for flag in torchrun if flag.startswith("--nproc-per-node=")).partition("=")[2])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
    where = cluster()
    if where and len(where.hosts) > 1:
        # In a SageMaker job each host calls itself "aws" (changehostname.c of aws/deep-learning-containers). That name
        # has no address, so gloo would fall back to loopback; nor does it tell the processes of two hosts apart.
        os.environ.setdefault("SM_CURRENT_HOST", where.hosts[where.current])
        if where.interface:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", where.interface)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", where.interface)
    # A process started from a file path would find this package only if it is installed, possibly in another version:
    # a training container runs an unpacked copy.
    package_root = str(Path(wrn.__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # Slow to import, and not needed for one process.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig
    from torch.distributed.run import parse_args, run

    if hasattr(LaunchConfig, "signals_to_handle"):  # older versions always handle SIGHUP and never SIGUSR1
        handled = {*STOP_SIGNALS, signal.SIGQUIT} - ({signal.SIGHUP} if hangup_ignored() else set())
        torchrun = [f"--signals-to-handle={','.join(sorted(number.name for number in handled))}", *torchrun]
    try:
        run(parse_args(list(torchrun)))  # type: ignore[no-untyped-call]
    except (SignalException, Interrupted):
        return INTERRUPTED
    except ChildFailedError as error:
        codes = {failure.exitcode for failure in error.failures.values()}
        # A killed process does not prevent resuming: the others report it.
        return next((code for code in (BUG, USER, INTERRUPTED) if code in codes), INTERRUPTED)
    return DONE
