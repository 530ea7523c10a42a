"""Output that its encoding cannot hold, or that nobody reads any more."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from wrn.text import printable

ESCAPE = "wrn.escape"
"""Name of the way to write what an encoding cannot hold."""


def escape_output() -> None:
    """From now on, stdout and stderr take any text: what their encoding cannot hold is written as `\\xe9` or `\\u20ac`.

    The terminal's encoding, or PYTHONIOENCODING, may be ASCII or Latin-1, and file names need not be UTF-8.
    """
    codecs.register_error(ESCAPE, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = printable(error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def drop(stream: TextIO) -> None:
    """Let all that is written to this stream from now on, and what is still in its buffer, go nowhere.

    For a stream whose reader has gone: each later write, and the last flush of the interpreter, would fail again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Droppable:
    """A text stream that is dropped by the first write that fails; otherwise the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def droppable_output() -> Iterator[None]:
    """Within the block, no write to stdout or stderr fails, whoever makes it.

    For a run that has more to lose than its log: a terminal may be closed (EIO), the reader of a pipe may end (EPIPE),
    as `tee` does on the same Ctrl-C, and the disk of a log may be full (ENOSPC).
    """
    replaced: dict[str, Any] = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(OSError):  # not a file: a test's, or a notebook's
            stream.fileno()
            replaced[name] = stream
            setattr(sys, name, Droppable(stream))
    try:
        yield
    finally:
        for name, stream in replaced.items():
            getattr(sys, name).flush()  # else the interpreter's last flush could fail
            setattr(sys, name, stream)
