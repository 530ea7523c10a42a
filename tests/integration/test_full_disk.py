"""A disk that fills up while a checkpoint is written: a real file system, too small for a second checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_files import write_pictures
from mounting import may_mount

ROOT = Path(__file__).resolve().parents[2]
SMALL = "1000k"
"""Holds one checkpoint of WRN-10-1 (0.6 MB), but not two.

However slow the disk is, a run writes at least two: after its first epoch and at the end.
"""


def test_the_previous_checkpoint_stays_and_the_run_resumes_from_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not may_mount(disk):
        pytest.skip("needs permission to mount a file system")
    pictures = write_pictures(tmp_path / "pictures")
    train = (
        f"{sys.executable} {ROOT / 'src/train.py'} --dataset folder --data-dir {pictures} "
        f"--output-dir {tmp_path / 'run'} --checkpoint-dir {disk}/c "
        "--depth 10 --widen-factor 1 --epochs 9 --batch-size 6 --warmup-epochs 1 "
        "--checkpoint-epochs 1 --device cpu --mixup-alpha 0"
    )
    script = f"""
        mount -t tmpfs -o size={SMALL} tmpfs {disk}
        {train}; echo "exit code $?"
        ls -A {disk}/c
        {train}; echo "exit code $?"
        mount -o remount,size=8m {disk}
        {train}; echo "exit code $?"
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "WRN_"))}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=280, env=clean, check=False
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("exit code")] == ["exit code 2"] * 2 + ["exit code 0"]
    files = [line for line in lines if line.startswith((".", "step-"))]
    assert len([name for name in files if name.endswith(".safetensors")]) == 1
    assert not [name for name in files if name.startswith(".step")], "half a checkpoint was left behind"
    assert sum(line.startswith("resumed from step ") for line in lines) == 2
    assert done.stderr.count("the checkpoint cannot be written") == 2
    assert "Traceback" not in done.stderr
