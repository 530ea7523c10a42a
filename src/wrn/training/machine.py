"""The machine under a run: what it is, how much memory was used, and which kernels it takes."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

import wrn
from wrn.model import Precision, own_kernels_in_use


def choose_kernels(deterministic: bool) -> None:
    """Either the fastest kernels for each shape, or only those that give the same bits every time."""
    if deterministic:
        # cuBLAS reads this when it starts; without it, its products are refused in deterministic mode.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    # Without amp, products on a GPU are in TF32: as repeatable as those in fp32, and several times as fast.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


DRIVER = Path("/proc/driver/nvidia/version")
"""Where a machine has an NVIDIA GPU and its driver, also inside containers."""


def unusable_driver() -> str | None:
    """What keeps torch from the NVIDIA GPU of this machine, in words; None where there is none, or torch can use it.

    Not by the number of devices: torch has that from the driver, which counts even those that it is too old to run.
    """
    try:
        driver = re.search(r"^NVRM[^.]* (\d+\.[\d.]+)", DRIVER.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if torch.cuda.is_available():
        return None
    built = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return f"the driver is {driver[1] if driver else 'unknown'}, torch is built {built}"


def peak_memory(device: torch.device) -> int:
    """The most bytes used so far: on a GPU by tensors, elsewhere by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # Linux counts in KiB


def provenance(precision: Precision) -> dict[str, Any]:
    """Where, when, in which precision and by which versions a model was made."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": device_name(precision.device),
        "precision": precision.name,
        "kernels": "ours" if own_kernels_in_use() else "torch",
        "platform": platform.platform(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """Of what computes: the same versions give the same bits."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "wrn": wrn.__version__}


def device_name(device: torch.device) -> str:
    """For people: the GPU's name, or the CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
