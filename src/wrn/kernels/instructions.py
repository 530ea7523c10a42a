"""Which instructions this machine's CPU has."""

from __future__ import annotations

import platform

import torch


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16 or AMX); emulation is slower than fp32."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return _cpu_supports("avx512_bf16") or cpu_has_amx()


def cpu_has_amx() -> bool:
    """Whether the CPU has Intel's matrix unit, which multiplies bf16 several times as fast as AVX512-BF16."""
    return _cpu_supports("amx_tile")


def _cpu_supports(instructions: str) -> bool:
    # Private in torch 2.8 to 2.13; if the probe is missing, False is the safe answer.
    probe = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return probe is not None and bool(probe())
