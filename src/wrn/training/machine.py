"""The machine of a run: what it is, how much memory was used, and which kernels to use."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any

import torch

import wrn
from wrn.kernels import Kernels
from wrn.model import Precision


def choose_kernels(deterministic: bool) -> None:
    """Use the fastest kernels for each shape, or only those that give the same bits every time."""
    if deterministic:
        # cuBLAS reads this when it starts; without it, torch refuses matrix products in deterministic mode.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    # Without amp, matrix products on a GPU use TF32: as repeatable as fp32, and several times as fast.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def peak_memory(device: torch.device) -> int:
    """Peak bytes used so far: by tensors on a GPU, elsewhere by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # Linux counts in KiB


def provenance(precision: Precision, kernels: Kernels) -> dict[str, Any]:
    """When and where a model was made, in which precision and with which versions."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": device_name(precision.device),
        "precision": precision.name,
        "kernels": kernels.name,
        "platform": platform.platform(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """The versions that results depend on: the same versions give the same bits."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "wrn": wrn.__version__}


def device_name(device: torch.device) -> str:
    """A readable name: the GPU's, or `cpu` with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads != 1 else ''}" if device.type == "cpu" else device.type
