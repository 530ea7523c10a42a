"""Steps and predictions with tensors on a pretended GPU: see tests/pretended_gpu.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "pretended_gpu.py"


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this torch has a real way to a GPU")
def test_nothing_is_on_another_device_and_nothing_is_brought_to_the_host() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    faults = {name: said.pop(name).split(":")[0] for name in ("two devices", "an index from the host", "a look")}
    assert said == dict.fromkeys(said, "ok")
    assert len(said) == 12
    assert faults == {
        "two devices": "FakeTensorDeviceMismatchError",
        "an index from the host": "FakeTensorDeviceMismatchError",
        "a look": "DataDependentOutputException",
    }
