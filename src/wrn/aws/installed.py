"""Print the lines of a requirements file that this Python does not satisfy; exit with 1 if there are any.

A training container runs this before pip: if everything is installed, neither pip nor a network is needed. It runs
standalone, before wrn can be imported; a line that is not a plain `name>=1.2` counts as missing.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path


def missing(text: str) -> list[str]:
    """The lines that are not satisfied, in order."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not satisfied(line)]


def satisfied(line: str) -> bool:
    found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\s*>=\s*(\d+(?:\.\d+)*))?", line)
    if found is None:
        return False
    try:
        there = re.match(r"\d+(?:\.\d+)*", metadata.version(found[1]) or "")
    except metadata.PackageNotFoundError:
        return False
    return there is not None and numbers(there[0]) >= numbers(found[2] or "0")


def numbers(version: str) -> tuple[int, ...]:
    """`1.2.0` as (1, 2): trailing zeros mean nothing."""
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


if __name__ == "__main__":
    lacking = missing(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(", ".join(lacking))
    sys.exit(1 if lacking else 0)
