"""Which of wrn's kernels a network uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from wrn.kernels import native
from wrn.kernels.instructions import cpu_computes_bf16, cpu_has_amx

MOST_THREADS = 8
"""The most threads that the kernel for weight gradients in bf16 can keep busy: `TASKS` in convolve.cpp."""


@dataclass(frozen=True)
class Kernels:
    """What a network computes by wrn's kernels instead of torch's operations; by default nothing.

    compiled: whatever the C++ kernels are faster at, in fp32 and bf16.
    bf16_gradients: what computes the weight gradients of 3x3 convolutions in bf16: torch's operation, the same on
        `strips` of images, or the C++ `kernel`.
    """

    compiled: bool = False
    bf16_gradients: Literal["torch", "strips", "kernel"] = "torch"

    @property
    def active(self) -> bool:
        """Whether any of them may be used now: not while torch.jit traces, as its files have to run without wrn."""
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return (self.compiled or self.bf16_gradients != "torch") and not tracing

    @property
    def name(self) -> str:
        return "ours" if self.compiled else "torch"


def pick_kernels(device: torch.device, wanted: bool = True) -> Kernels:
    """Everything that makes this machine faster, if wanted and if the device is its CPU.

    The first call on a machine compiles them, which takes seconds. That needs Linux and a C++ compiler; without, only
    `strips` may remain, which are torch's operations.
    """
    if not wanted or device.type != "cpu":
        return Kernels()
    compiled = native.available()
    if cpu_has_amx():
        return Kernels(compiled, "strips")
    pays = compiled and cpu_computes_bf16() and torch.get_num_threads() <= MOST_THREADS
    return Kernels(compiled, "kernel" if pays else "torch")
