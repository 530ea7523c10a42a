"""Why torch cannot use the GPU that this machine has."""

from __future__ import annotations

import re
from pathlib import Path

import torch

DRIVER = Path("/proc/driver/nvidia/version")
"""Exists if the machine has an NVIDIA driver, also inside containers."""


def unusable_driver() -> str | None:
    """Why torch cannot use this machine's NVIDIA GPU; None if it can, or if there is no GPU.

    The device count does not tell: it comes from the driver, which counts GPUs even if it is too old to run them.
    """
    try:
        driver = re.search(r"^NVRM[^.]* (\d+\.[\d.]+)", DRIVER.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if torch.cuda.is_available():
        return None
    built = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return f"the driver is {driver[1] if driver else 'unknown'}, torch is built {built}"
