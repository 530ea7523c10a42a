"""Two process settings that speed up training on CPUs."""

from __future__ import annotations

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Options of glibc's mallopt, from malloc.h."""


def tune_cpu() -> None:
    """Keep freed memory in the process, and treat denormal numbers as 0.

    A step allocates and frees hundreds of megabytes of activations. By default glibc returns each large block to the
    system and requests it again, and every page is zeroed again on first touch: 15 to 30% of a step.
    """
    torch.set_flush_denormal(True)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another libc
    if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
        mallopt(M_MMAP_MAX, 0)  # glibc 2.34 and older accept no threshold above 32 MB
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
