"""Help texts that were written by hand, broken to the width of the terminal."""

from __future__ import annotations

import re
import shutil
import textwrap

LEAST = 20
"""Columns: narrower terminals get this, too."""
WIDEST_INDENT = 24


def columns() -> int:
    """Of the terminal ($COLUMNS, where that is set), less two, as argparse has it."""
    return max(shutil.get_terminal_size().columns - 2, LEAST)


def usage_line(usage: str, prog: str) -> str:
    """What stands behind `usage: `; a bracket with a flag and its value stays whole, later lines begin below it."""
    kept = re.sub(r"\[[^\[\]]*\]", lambda bracket: bracket[0].replace(" ", "\xa0"), usage)
    head = "usage: "
    indent = min(len(f"{head}{prog} "), WIDEST_INDENT, columns() // 2)
    return _fill(kept, first=head, later=" " * indent).removeprefix(head).replace("\xa0", " ")


def entry(name: str, text: str, width: int) -> str:
    """A line of a list: two spaces, the name in a column of `width`, and what it is, which hangs below itself."""
    return _fill(text, first=f"  {name:<{width}}  ", later=" " * min(width + 4, columns() // 2))


def paragraph(text: str) -> str:
    return _fill(text, first="", later="")


def hanging(text: str) -> str:
    """A line wrapped with its further lines indented."""
    return _fill(text, first="", later="  ")


def _fill(text: str, *, first: str, later: str) -> str:
    return textwrap.fill(
        text,
        columns(),
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
