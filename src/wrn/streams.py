"""What becomes of output that nobody reads any more."""

from __future__ import annotations

import os
from typing import TextIO


def drop(stream: TextIO) -> None:
    """Let all that is written to this stream from now on, and what is still in its buffer, go nowhere.

    For a stream whose reader has gone: each later write, and the last flush of the interpreter, would fail again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
