"""A checkout has Linux's line endings, whatever git is set to: containers, WSL and Git Bash run its scripts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIKE_WINDOWS = ("-c", "core.autocrlf=true", "-c", "user.name=x", "-c", "user.email=x@y")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("attributes", [False, True])
def test_line_endings_on_windows(attributes: bool, tmp_path: Path) -> None:
    names = (
        "deploy.sh",
        "Makefile",
        "Dockerfile",
        "src/wrn/aws/container.sh",
        "src/wrn/recipes/config.yaml",
        "src/requirements.txt",
    )
    for name in (*names, *([".gitattributes"] if attributes else [])):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for words in (
        ("init", "-q"),
        ("add", "."),
        ("commit", "-qm", "x"),
        ("rm", "-q", "-r", "."),
        ("checkout", "HEAD", "."),
    ):
        subprocess.run(["git", *LIKE_WINDOWS, *words], cwd=tmp_path, check=True, capture_output=True)
    changed = {name for name in names if b"\r" in (tmp_path / name).read_bytes()}
    assert changed == (set() if attributes else set(names))
