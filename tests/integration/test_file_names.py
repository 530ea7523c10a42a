"""A run whose folders, classes and images have names that are not UTF-8, under a locale that is ASCII."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from data_files import write_pictures

CHILD = """
import os, sys
from wrn.cli import main
run = os.fsdecode(b"r\\xe9")
small = "--dataset folder --data-dir pictures --depth 10 --widen-factor 1 --batch-size 8 --warmup-epochs 0".split()
train = ["train", *small, "--device", "cpu", "--no-cpu-kernels", "--progress", "plain", "--output-dir", run]
assert main([*train, "--epochs", "1"]) == 0
assert main([*train, "--epochs", "2"]) == 0
flags = ["--model-dir", f"{run}/model", "--device", "cpu"]
assert main(["evaluate", *flags, "--data-dir", "pictures", "--per-class"]) == 0
assert main(["predict", *flags, os.fsdecode(b"pictures/test/caf\\xe9/0.png")]) == 0
"""


def test_names_that_are_not_utf8_and_output_that_is_ascii(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", ("caf\udce9", "na\u00efve"), each=4)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
        check=False,
    )
    shown = done.stdout.decode("ascii")
    assert done.returncode == 0, done.stderr
    assert "resumed from step" in shown
    assert "next: wrn predict --model-dir $'r\\xe9/model' IMAGE" in shown
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} == {"caf\\xe9", "na\\xefve"}
    model = json.loads((tmp_path / "r\udce9/model/model.json").read_text(encoding="utf-8"))
    assert model["classes"] == ["caf\\xe9", "na\u00efve"]
