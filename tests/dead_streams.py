"""Outputs that fail, each as it does in earnest."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FULL = Path("/dev/full")
DEAD = ("a closed pipe", "a closed terminal", *(["a full disk"] if FULL.exists() else []))
"""Writing to them gives EPIPE, EIO and ENOSPC."""


@contextmanager
def dead_stream(kind: str) -> Iterator[TextIO]:
    """A text stream like sys.stdout, each of whose writes fails once its buffer is flushed."""
    if kind == "a full disk":
        descriptor = os.open(FULL, os.O_WRONLY)
    else:
        reader, descriptor = os.pipe() if kind == "a closed pipe" else pty.openpty()
        os.close(reader)
    stream = os.fdopen(descriptor, "w", encoding="utf-8")
    try:
        yield stream
    finally:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # closing flushes, and would fail
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        stream.close()
