"""`wrn` as people start it, in a process of its own, against the stand-in; and a job small enough for a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from standin import StandIn

ROOT = Path(__file__).resolve().parents[1]
AWS = Path(sys.executable).with_name("aws")
"""The aws command of this environment."""

TINY = (
    *("--instance-type", "m5.large", "--max-runtime", "10m", "--device", "cpu", "--progress", "plain"),
    *("--depth", "10", "--widen-factor", "1", "--batch-size", "4", "--warmup-epochs", "0", "--dropout", "0.1"),
)
"""Flags of a job that trains within a second."""


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def requests(self) -> int:
        """How many it says that it sent, with --debug."""
        line = next(line for line in self.err.splitlines() if "requests to AWS" in line)
        return int(line.split()[0])


@dataclass(frozen=True)
class Desk:
    """Where someone sits who uses `wrn`: a folder, an environment, a copy of the code.

    The environment is made anew: nothing of whoever runs the tests is in it but PATH, HOME and where caches are.
    """

    aws: StandIn
    folder: Path
    code: Path = ROOT
    more: Mapping[str, str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME") if name in os.environ}
        return {
            **kept,
            **self.aws.environment,
            "PYTHONPATH": str(self.code / "src"),
            "OMP_NUM_THREADS": "1",
            **(self.more or {}),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wrn", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def wrn(self, *words: str, code: int = 0) -> Said:
        """Run it to its end, which must be with this exit code."""
        return said(self.start(*words), code)

    def deploy(self, name: str, data: Sequence[str], *words: str, code: int = 0) -> Said:
        return self.wrn("deploy", "--yes", "--name", name, *TINY, *data, *words, code=code)


def said(process: subprocess.Popen[str], code: int = 0) -> Said:
    """What a started command said in the end."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, f"{process.args!r}: {process.returncode}\n{out}\n{err}"
    return Said(process.returncode, out, err)


def folder_flags(folder: Path) -> tuple[str, ...]:
    return ("--dataset", "folder", "--data-dir", str(folder))
