"""Training goes on where nobody can read its output any more, and its exit code is the usual one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dead_streams import DEAD, dead_stream
from tiny import tiny_dataset
from wrn.cli import main

SMALL = ["--depth", "10", "--widen-factor", "1", "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "16"]
HERE = ["--dataset", "folder", "--device", "cpu", "--mixup-alpha", "0"]


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset())


@pytest.mark.parametrize(("kind", "progress"), [*((kind, "rich") for kind in DEAD), ("a closed pipe", "plain")])
def test_a_run_without_readers(kind: str, progress: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with dead_stream(kind) as out, dead_stream(kind) as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(["train", *SMALL, *HERE, "--progress", progress, "--output-dir", str(run)]) == 0
    assert json.loads((run / "metrics.json").read_text())["images"] == 20
    assert len(list((run / "checkpoints").glob("*.sha256"))) == 1


@pytest.mark.parametrize("kind", DEAD)
def test_an_error_keeps_its_exit_code(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dead_stream(kind) as out, dead_stream(kind) as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(["train", *HERE, "--output-dir", str(tmp_path / "run"), "--batch-size", "61"]) == 2
        monkeypatch.setattr("wrn.training.run.train", lambda *_: 1 / 0)
        assert main(["train", *HERE, "--output-dir", str(tmp_path / "run")]) == 1


def test_a_broken_pipe_that_is_not_the_output_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the end of a run with exit code 0, as for the commands whose output is all they are for."""

    def broken(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("wrn.training.run.train", broken)
    assert main(["train", *HERE]) == 1
