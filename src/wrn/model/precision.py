"""Which device to use, and in which floating-point type convolutions compute on it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from wrn.errors import ConfigError
from wrn.kernels.instructions import cpu_computes_bf16


@dataclass(frozen=True)
class Precision:
    """How the forward pass computes on a device; `reason` says briefly why."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """bf16, fp16, fp32, or tf32 on GPUs that have it: matrix products then round fp32 inputs to 10 bits."""
        if self.dtype is torch.float32 and self.device.type == "cuda" and computes_bf16(self.device):
            return "tf32"  # every GPU with bf16 has tf32
        return {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[self.dtype]

    @property
    def scales_loss(self) -> bool:
        """fp16 gradients underflow without loss scaling; bf16 has the range of fp32."""
        return self.dtype is torch.float16

    def autocast(self) -> AbstractContextManager[Any]:
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def pick_device(name: str) -> torch.device:
    """The device of that name, made current; `auto` is CUDA if available, then Apple's MPS, then the CPU.

    Raises ConfigError if this machine does not have it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return pick_device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'device: "{name}" is not a device; give auto, cpu, cuda, cuda:1 or mps') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"device: {name} is not available (torch sees {count} CUDA devices); give --device auto")
    _check_build(device)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps is not available; give --device auto")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f'device: "{name}" is not supported; give auto, cpu, cuda or mps')
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # events and streams without a device use the current one
    return device


def _check_build(device: torch.device) -> None:
    """Raises ConfigError if this build of torch does not support the GPU, such as a V100 since CUDA 13."""
    if device.type != "cuda":
        return
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if not runs(capability, built_for):
        raise ConfigError(
            f"device: this torch was not built for {torch.cuda.get_device_name(device)} "
            f"(sm_{capability[0]}{capability[1]}), only for {', '.join(built_for)}; install a torch that was, or give "
            "--device cpu"
        )


def runs(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a GPU of this compute capability runs code built for any of `sm_80`, `compute_90` and so on.

    Machine code (sm) runs on its own major version from its minor version on, or with a letter suffix on exactly its
    own version; PTX (compute) on all later ones. True if the names are of another kind, such as ROCm's.
    """
    known = [match for name in built_for if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name))]
    for kind, major, minor, letter in (match.groups() for match in known):
        version = (int(major), int(minor))
        if version == capability or (
            not letter and version < capability and (kind == "compute" or version[0] == capability[0])
        ):
            return True
    return not known


def pick_precision(device: torch.device, *, amp: bool, amp_dtype: str = "auto") -> Precision:
    """The precision to train with: as requested, or the fastest on this hardware."""
    if not amp:
        return Precision(device, torch.float32, "amp is off")
    if amp_dtype == "bf16":
        emulated = device.type != "mps" and not computes_bf16(device)
        return Precision(device, torch.bfloat16, "as requested, but only emulated here" if emulated else "as requested")
    if amp_dtype == "fp16":
        if device.type != "cuda":
            raise ConfigError(f"amp_dtype: fp16 needs a GPU, the device is {device.type}; give --amp-dtype auto")
        return Precision(device, torch.float16, "as requested")
    if device.type == "cuda":
        if computes_bf16(device):
            return Precision(device, torch.bfloat16, "this GPU computes bf16")
        return Precision(device, torch.float16, "this GPU has no bf16; the loss is scaled")
    if computes_bf16(device):
        return Precision(device, torch.bfloat16, "this CPU has bf16 instructions")
    return Precision(device, torch.float32, f"no fast 16-bit type on this {device.type}")


def computes_bf16(device: torch.device) -> bool:
    """Whether this device multiplies bf16 natively; False for MPS, as torch does not report it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and cpu_computes_bf16()
