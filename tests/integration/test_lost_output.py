"""Training goes on where nobody can read its output any more, and its exit code is the usual one."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_files import write_pictures
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


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid to give a program a terminal")
@pytest.mark.parametrize(("nohup", "code"), [(False, 3), (True, 0)])
def test_a_closed_terminal(nohup: bool, code: int, tmp_path: Path) -> None:
    """SIGHUP comes first, and whatever is written afterwards fails. Under nohup the run goes on without a terminal."""
    pictures = write_pictures(tmp_path / "pictures", ("a", "b"), each=12)
    flags = ["--data-dir", str(pictures), "--output-dir", str(tmp_path / "run"), "--progress", "rich"]
    flags += ["--epochs", "30" if nohup else "9999", "--eval-epochs", "0", "--checkpoint-epochs", "0"]
    command = [sys.executable, "-m", "wrn", "train", *SMALL, *HERE, *flags]
    script = f"trap '' HUP; exec {shlex.join(command)}" if nohup else f"exec {shlex.join(command)}"
    terminal, end = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        ["setsid", "--ctty", "sh", "-c", script],
        stdin=end,
        stdout=end,
        stderr=end,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may be under nohup
    )
    os.close(end)
    seen = b""
    while b"epoch   1 " not in seen:
        seen += os.read(terminal, 9999)
    os.close(terminal)
    assert process.wait(60) == code
    assert len(list((tmp_path / "run/checkpoints").glob("*.sha256"))) == 1
    assert (tmp_path / "run/metrics.json").exists() == nohup


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
