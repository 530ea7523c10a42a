from __future__ import annotations

from pathlib import Path

import pytest

from wrn.training.checkpoint import CheckpointStore


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, notes: list[str]) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", 2, notes.append)
