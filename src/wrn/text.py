"""Short texts for people: names, times, and commands to copy."""

from __future__ import annotations

import os
import shlex
from typing import Any


def printable(name: str) -> str:
    """A file name as text that every encoding of Unicode can hold: bytes that are no UTF-8 become `\\xe9`.

    Python holds such a byte as half of a character (PEP 383), which no file in UTF-8 and no other parser takes. So a
    class has the same name whatever the locale of the process that lists its folder.
    """
    try:
        content = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character that is no byte, from somebody's JSON
        content = name.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def shell_command(*words: str | os.PathLike[str]) -> str:
    """A command as a shell takes it, for people to copy."""
    return " ".join(map(_quoted, words))


def _quoted(word: str | os.PathLike[str]) -> str:
    text = os.fspath(word)
    if printable(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"  # as bash, zsh and POSIX.1-2024 have it


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min, 24 h, 2.5 days. Never below 0: clocks differ between machines, and are set back."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    return f"{round(seconds / 86400, 1):g} days"


def clock(seconds: float | None) -> str:
    """For a progress view, of constant width below 10 hours: 0:05:09, or dashes if unknown."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def figure(value: Any) -> str:
    """Short numbers, but never so short that a learning rate reads 0; other values as they are."""
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1000 else f"{value:.4g}"
    return str(value)


def shown(value: Any) -> str:
    """A value that was given, as shown in messages: shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:90]}... ({len(text)} characters)"
