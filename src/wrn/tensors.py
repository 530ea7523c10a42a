"""Tensors as a file, in the form that other programs read as well, and files that outlast a power cut."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with the rights that any new file gets there.

    safetensors makes its files for their owner alone, whatever the umask: a colleague could not read the model.
    Raises OSError or SafetensorError.
    """
    path.touch()
    usual = stat.S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata=dict(metadata))
    with suppress(OSError):  # of a file system without rights
        path.chmod(usual)


def flush(path: Path) -> None:
    """fsync a file, or a folder so that a rename in it is on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
