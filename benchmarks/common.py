"""What every benchmark writes beside its figures: the machine, the versions, the commit and the machine's peak."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.nn.functional as F

Run = Callable[[], object]


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The commit of the working tree, `+changes` behind it where files differ from it; `none` outside a commit."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "--short=12", "HEAD")
        return name + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def environment() -> dict[str, Any]:
    """Hardware, versions, commit, date and command of this run."""
    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "commit": commit(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
            "system": platform.system(),
        },
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
    }


def seconds(run: Run) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interleaved(runs: Mapping[str, Run], rounds: int) -> dict[str, list[float]]:
    """Wall times of each run, one per round: A B C, A B C, ... so that a busy machine slows all of them alike.

    One untimed round comes first: caches, allocators and kernels are chosen then.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            taken = seconds(run)
            if number:
                times[name].append(taken)
    return times


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def peak_flops(dtype: torch.dtype, device: torch.device, at_least: float = 1.0) -> dict[str, float]:
    """The most FLOP/s seen of a large square matrix product and of a 3x3 channels-last convolution.

    at_least: seconds for each. The larger of the two is the peak that MFU is a share of.
    """
    on_gpu = device.type == "cuda"
    size = 8192 if on_gpu else 2048
    batch, channels, side = (512 if on_gpu else 16), 320, 16
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    images = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    work: dict[str, tuple[float, Run]] = {
        "matmul": (2.0 * size**3, lambda: left @ right),
        "conv3x3": (2.0 * batch * side**2 * 9 * channels**2, lambda: F.conv2d(images, kernel, padding=1)),
    }
    peaks = {}
    with torch.inference_mode():
        for name, (flops, run) in work.items():

            def once(run: Run = run) -> None:
                run()
                if on_gpu:
                    torch.cuda.synchronize()

            once()
            best, deadline = seconds(once), time.perf_counter() + at_least
            while time.perf_counter() < deadline:
                best = min(best, seconds(once))
            peaks[name] = flops / best
    return peaks


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
