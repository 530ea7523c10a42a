"""Parsers for flag values: text to a value, or an ArgumentTypeError that says what is allowed."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from wrn.filesystem import exists, user_path


def refusal(text: str, wanted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r} is not allowed; give {wanted}")


def whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII) or not int(text):
        raise refusal(text, "a whole number from 1 to 999999999")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    found = tuple(whole(word) for word in text.replace(",", " ").split())
    if not found:
        raise refusal(text, 'whole numbers above 0, such as "1 8 64"')
    return found


def seconds(text: str) -> float:
    return _number(text, "seconds, 0 or more", lambda value: value >= 0)


def hours(text: str) -> float:
    return _number(text, "hours above 0, such as 1.5", lambda value: value > 0)


def dollars(text: str) -> float:
    return _number(text, "US dollars above 0, such as 5 or 1.41", lambda value: value > 0, unit="$")


def share(text: str) -> float:
    return _number(text, "a fraction above 0 and at most 1, such as 0.4 for 40%", lambda value: 0 < value <= 1)


def _number(text: str, wanted: str, allowed: Callable[[float], bool], unit: str = "") -> float:
    try:
        value = float(text.strip().removeprefix(unit))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and allowed(value)):
        raise refusal(text, wanted)
    return value


def reachable(text: str) -> Path:
    """A file or folder, which need not exist."""
    try:
        return user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; {error}") from None


def writable(text: str) -> Path:
    """A writable file, checked first so that minutes of measurements are not lost."""
    file = reachable(text)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not exists(file)
        file.open("a").close()
        if new:
            file.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{file} cannot be written ({error.strerror}); give another file") from None
    return file
