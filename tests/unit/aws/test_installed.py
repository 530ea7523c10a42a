"""What a training container checks before training: missing packages, pip, the age of the driver."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from wrn.aws.installed import missing, numbers

ROOT = Path(__file__).resolve().parents[3]


def test_what_this_project_needs_is_here() -> None:
    assert missing((ROOT / "src/requirements.txt").read_text()) == []


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("some>=1.9", True),
        ("some", True),
        ("some >= 1.10.0  # why", True),
        ("some>=1.11", False),
        ("some>=2", False),
        ("some[extra]>=1", False),
        ("some==1.10", False),
        ("-r other.txt", False),
        ("no-such-package>=1", False),
    ],
)
def test_a_line(line: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.10.post1+x" if name == "some" else real(name))
    assert (missing(f"# first\n\n{line}\n") == []) is there


def test_versions() -> None:
    assert numbers("1.10") > numbers("1.9.9")
    assert numbers("2.0.0") == numbers("2")


@pytest.mark.parametrize("has_pip", [False, True])
def test_without_pip_or_with_one_that_fails(has_pip: bool, tmp_path: Path) -> None:
    tree, fake = tmp_path / "code", tmp_path / "bin/python"
    (tree / "src/wrn/aws").mkdir(parents=True)
    (tmp_path / "output").mkdir()
    for name in ("container.sh", "installed.py"):
        (tree / "src/wrn/aws" / name).write_bytes((ROOT / "src/wrn/aws" / name).read_bytes())
    (tree / "src/requirements.txt").write_text("no-such-package>=1\n")
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/bash\ncase "$1" in -) exec {sys.executable} "$@" ;; -c) exit {0 if has_pip else 1} ;; esac\nexit 1\n'
    )
    fake.chmod(0o755)
    environ = {"PATH": f"{fake.parent}:/usr/bin:/bin", "SAGEMAKER_BASE_DIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", str(tree / "src/wrn/aws/container.sh")], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    told = (tmp_path / "output/failure").read_text()
    assert done.stderr.strip() == told
    if has_pip:
        assert told == "pip could not install no-such-package>=1; the log says why"
    else:
        assert told == f"{fake} has no pip and lacks no-such-package>=1; install that in the image"


PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3-AE18-23-3)"
    "  Tue Sep 23 10:11:16 UTC 2025"
)


@pytest.mark.parametrize(
    ("driver", "library", "needed"),
    [
        (PROPRIETARY, "580.82.07", True),
        (PROPRIETARY, "550.163.01", False),
        (PROPRIETARY, "535.54.03", False),
        (OPEN, "590.44.01", True),
        (OPEN, "580.95.05", False),
        (OPEN, "580.82.07", False),
    ],
)
def test_newer_cuda_libraries_are_taken_for_an_older_driver(
    driver: str, library: str, needed: bool, tmp_path: Path
) -> None:
    """The script itself, except for where it looks for the driver and the libraries."""
    tree, fake, compat = tmp_path / "code", tmp_path / "bin/python", tmp_path / "compat"
    for folder in (tree / "src/wrn/aws", fake.parent, compat):
        folder.mkdir(parents=True)
    (tmp_path / "version").write_text(f"{driver}\nGCC version:  gcc version 11.4.1 20230605 (Red Hat 11.4.1-2) (GCC)\n")
    (compat / f"libcuda.so.{library}").touch()
    (compat / "libcuda.so.1").symlink_to(f"libcuda.so.{library}")
    script = (ROOT / "src/wrn/aws/container.sh").read_text()
    for place, stand_in in (("/usr/local/cuda/compat", "compat"), ("/proc/driver/nvidia/version", "version")):
        assert place in script
        script = script.replace(place, str(tmp_path / stand_in))
    (tree / "src/wrn/aws/container.sh").write_text(script)
    fake.write_text('#!/bin/bash\necho "${LD_LIBRARY_PATH-}"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", str(tree / "src/wrn/aws/container.sh")],
        env={"PATH": f"{fake.parent}:/usr/bin:/bin", "LD_LIBRARY_PATH": "/before", "SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (f"{compat}:/before" if needed else "/before")
