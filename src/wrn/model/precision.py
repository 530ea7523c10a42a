"""Which device, and which floating-point type the convolutions use on it."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from wrn.errors import ConfigError


@dataclass(frozen=True)
class Precision:
    """How the forward pass computes on a device; `reason` says in a few words why."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
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
    """The device of that name; `auto` is CUDA, then Apple's MPS, then the CPU.

    Raises ConfigError when it does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'device: "{name}" is no device; give auto, cpu, cuda, cuda:1 or mps') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"device: {name} is not here (torch sees {count} CUDA devices); give --device auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps is not here; give --device auto")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f'device: "{name}" is not supported; give auto, cpu, cuda or mps')
    return device


def pick_precision(device: torch.device, *, amp: bool, amp_dtype: str = "auto") -> Precision:
    """The precision to train with: what was asked for, or what the hardware is fastest at."""
    if not amp:
        return Precision(device, torch.float32, "amp is off")
    if amp_dtype == "bf16":
        return Precision(device, torch.bfloat16, "asked for")
    if amp_dtype == "fp16":
        if device.type != "cuda":
            raise ConfigError(f"amp_dtype: fp16 needs a GPU, the device is {device.type}; give --amp-dtype auto")
        return Precision(device, torch.float16, "asked for")
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(device, torch.bfloat16, "this GPU computes bf16")
        return Precision(device, torch.float16, "this GPU has no bf16; the loss is scaled")
    if device.type == "cpu" and cpu_computes_bf16():
        return Precision(device, torch.bfloat16, "this CPU has bf16 instructions")
    return Precision(device, torch.float32, f"no fast 16-bit type on this {device.type}")


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16 or AMX): emulation is slower than fp32."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    # Private in torch 2.8 to 2.13; where they are gone, fp32 is the safe answer.
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe() for probe in probes if probe is not None)
