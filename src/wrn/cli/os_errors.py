"""An operating system's error about a file or folder, as one sentence that names the flag which gave the path."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

OF_THE_MACHINE = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENAMETOOLONG, errno.ELOOP),
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN),
    )
)
"""What no program can prevent: rights, names, quotas and disks. Others are the user's only on a path that was given."""


def sentence(error: OSError, arguments: Sequence[str]) -> str | None:
    """What cannot be used, why, and what to change; None if the error may as well be a bug.

    arguments: of the command line, among which the flag that gave the path is looked for.
    """
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    path = os.fsdecode(error.filename)
    flag = flag_of(path, arguments)
    if flag is not None:
        return f"{flag}: {path} cannot be used ({error.strerror}); fix that, or give another {flag}"
    if error.errno in OF_THE_MACHINE:
        return f"{path}: cannot be used ({error.strerror}); fix that and repeat the command"
    return None


def flag_of(path: str, arguments: Sequence[str]) -> str | None:
    """The flag with the longest value that is this path or a folder above it; None if there is none."""
    with suppress(OSError, RuntimeError):  # the working directory is gone; `~` of no user
        target, here = Path(path).absolute(), Path.cwd()
        found = {
            place: flag
            for flag, value in _values(arguments)
            if target.is_relative_to(place := Path(value).expanduser().absolute())
            # Below the working directory most paths come from nobody, even if --data-dir is "." too.
            and (target == place or not here.is_relative_to(place))
        }
        return found[max(found, key=lambda place: len(place.parts))] if found else None
    return None


def _values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The flags with their values, given as `--flag value` or `--flag=value`, in JSON quotes or not."""
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and (equals or not following.startswith("--")):
            yield flag.replace("_", "-"), (value if equals else following).strip('"')
