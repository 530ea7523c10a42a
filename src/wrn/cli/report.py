"""How commands print figures and notes."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def percent(share: float) -> str:
    """0.8123 as 81.23%."""
    return f"{share:.2%}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces between them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def say(text: str) -> None:
    """A line for people, on standard error: standard output holds only the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
