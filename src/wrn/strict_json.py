"""JSON as every parser reads it: the only way that wrn writes JSON."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    """`json.dumps`, which would also write NaN and Infinity: no JSON, and refused by most other parsers.

    Raises ValueError for these. Whoever may hold one decides what it means: see `without_nan`.
    """
    return json.dumps(value, indent=indent, allow_nan=False)  # noqa: TID251


def without_nan(value: Any) -> Any:
    """The same JSON value with null for each number that is not finite, as older versions of wrn could write them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return value
