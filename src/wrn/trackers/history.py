"""history.jsonl: one JSON line per epoch, consistent with the checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wrn.errors import TrainingError
from wrn.strict_json import to_json

Row = dict[str, Any]


def write_history(path: Path, rows: list[Row]) -> None:
    """Replace the file by these rows: after a resume, epochs later than the checkpoint are dropped."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text("".join(to_json(row) + "\n" for row in rows), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error}); free space or give another --output-dir") from None


def append_history(path: Path, row: Row) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(to_json(row) + "\n")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error}); free space or give another --output-dir") from None
