"""JSON as every parser reads it: the only way that wrn writes JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from wrn.text import printable


def to_json(value: Any, *, indent: int | None = None) -> str:
    """`json.dumps`, which would also write NaN and Infinity: no JSON, and refused by most other parsers.

    Raises ValueError for these. Whoever may hold one decides what it means: see `without_nan`. Names that are no
    Unicode, as files may have them, are written as `printable` gives them: others refuse half of a character, too.
    """
    text = json.dumps(value, indent=indent, allow_nan=False)  # noqa: TID251
    if "\\ud" not in text:  # half of a character, which may be one of a pair
        return text
    return json.dumps(with_printable_text(value), indent=indent, allow_nan=False)  # noqa: TID251


def with_printable_text(value: Any) -> Any:
    """The same JSON value with `printable` text alone, as older versions of wrn and other programs may not have it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {with_printable_text(key): with_printable_text(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [with_printable_text(entry) for entry in value]
    return value


def without_nan(value: Any) -> Any:
    """The same JSON value with null for each number that is not finite, as older versions of wrn could write them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return value
