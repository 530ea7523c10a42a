"""Paths that people give, and whether something is there, answered alike by every version of Python.

pathlib's `exists`, `is_file` and `is_dir` raise for a folder that may not be searched, a name that is too long or a NUL
character in some versions and return False in others. Here "there is nothing" and "it cannot be told" always differ.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether the path leads to anything, links followed. Raises OSError if that cannot be told."""
    return _facts(path) is not None


def is_file(path: Path) -> bool:
    """Whether the path leads to a regular file, links followed. Raises OSError if that cannot be told."""
    facts = _facts(path)
    return facts is not None and stat.S_ISREG(facts.st_mode)


def is_dir(path: Path) -> bool:
    """Whether the path leads to a folder, links followed. Raises OSError if that cannot be told."""
    facts = _facts(path)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def file_digest(path: Path, kind: str) -> str:
    """The `md5` or `sha256` of a file's content, in hexadecimal digits. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _facts(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead nowhere, as a dangling one
            return None
        raise
    except ValueError:
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None


def user_path(text: str | Path) -> Path:
    """A path that a person gave, with `~` expanded, as no shell does in --output-dir=~/x or in a variable's value.

    It need not exist. Raises ValueError, with the reason and the fix, if nothing can be there or it cannot be reached.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user; give the full path") from None
    try:
        exists(path)
    except OSError as error:
        raise ValueError(f"it cannot be reached ({error.strerror}); give another path") from None
    return path
