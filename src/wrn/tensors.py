"""Tensors as a file, in the form that other programs read as well, and files that outlast a power cut."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wrn.text import printable


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


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """safetensors' `safe_open`, which refuses paths that are not UTF-8. Raises OSError or SafetensorError."""
    with ExitStack() as stack:
        if printable(str(path)) != str(path):
            path = Path(f"/dev/fd/{stack.enter_context(path.open('rb')).fileno()}")
        yield stack.enter_context(safe_open(path, framework="pt"))


def flush(path: Path) -> None:
    """fsync a file, or a folder so that a rename in it is on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
