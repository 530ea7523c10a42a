"""What is recorded with every figure: the machine, the versions, the commit, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

import wrn
from wrn.kernels.instructions import cpu_computes_bf16, cpu_has_amx
from wrn.strict_json import to_json
from wrn.text import shell_command


def environment() -> dict[str, Any]:
    """Hardware, versions, commit, date and command of this run."""
    cuda = torch.cuda.is_available()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    if cuda:
        versions["cuda"] = str(torch.version.cuda)
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "commit": commit(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "cpu_bf16": cpu_computes_bf16(),
            "cpu_amx": cpu_has_amx(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
            "system": platform.system(),
        },
        "threads": torch.get_num_threads(),
        "versions": {**versions, "wrn": wrn.__version__},
    }


def command() -> str:
    """The command of this process, to run it again."""
    script = Path(sys.argv[0])
    words = ["wrn"] if script.name in ("wrn", "__main__.py") else ["python", os.path.relpath(script)]
    return shell_command(*words, *sys.argv[1:])


def cpu_model() -> str:
    """The processor's name as reported by the system."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The commit that this code is from, with `+changes` if files differ from it; `none` if installed."""
    package = Path(wrn.__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # A virtual environment may be inside another project's repository, whose commit means nothing here.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parents[1]:
            return "none"
        name = git("rev-parse", "--short=12", "HEAD")
        # New records do not change what is measured.
        changed = git("status", "--porcelain", "--", ":/", ":(top,exclude)benchmarks/results")
        return name + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
