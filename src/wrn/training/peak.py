"""This machine's peak FLOP/s, the reference for model FLOP/s utilisation (MFU)."""

from __future__ import annotations

import time

import torch

from wrn.config.gpus import DENSE_FLOPS
from wrn.model import Precision


def peak_flops(precision: Precision) -> tuple[float, str]:
    """FLOP/s of the device in this precision, and where the figure comes from.

    From the catalogue for known GPUs in 16 bits; otherwise measured with a matrix product, in about 0.2 s.
    """
    if (name := catalogued(precision)) is not None:
        return DENSE_FLOPS[name], f"data sheet of {name}"
    return measured_matmul_flops(precision), "measured matrix product"


def catalogued(precision: Precision) -> str | None:
    """The device's name in the catalogue; None if it is not listed or its figure does not apply."""
    if precision.device.type != "cuda" or precision.dtype is torch.float32:
        return None
    words = torch.cuda.get_device_name(precision.device).replace("-", " ").split()
    if {"PCIe", "NVL", "MIG"} & set(words):  # slower variants, or partitions
        return None
    return next((name for name in DENSE_FLOPS if f" {name} " in f" {' '.join(words)} "), None)


def measured_matmul_flops(precision: Precision, size: int = 2048, seconds: float = 0.15) -> float:
    """FLOP/s of a square matrix product of side `size`, the best of the rounds that fit into `seconds`."""
    device = precision.device
    size = size if device.type != "cuda" else 8192
    left = torch.randn(size, size, device=device, dtype=precision.dtype)
    right = torch.randn(size, size, device=device, dtype=precision.dtype)

    def once() -> float:
        started = time.perf_counter()
        (left @ right).flatten()[0].item()  # .item() waits for the device
        return time.perf_counter() - started

    once()
    best, spent = once(), 0.0
    while spent < seconds:
        taken = once()
        best, spent = min(best, taken), spent + taken
    return 2 * size**3 / best
