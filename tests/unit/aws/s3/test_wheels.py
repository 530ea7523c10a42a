"""A job that may have no network brings its packages along: fetched here, installed there by container.sh."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wrn.aws.jobs.options import DeployOptions
from wrn.aws.s3.wheels import fetch_wheels, pythons_of, wheels_name
from wrn.errors import AwsError

ROOT = Path(__file__).resolve().parents[4]
OPTIONS = DeployOptions(name="x", account="111122223333", network_isolation=True)


class Pip:
    """A stand-in for pip: leaves a file for each Python, or complains."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.complaint = ""

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if self.complaint:
            return subprocess.CompletedProcess(command, 1, "", self.complaint)
        folder = next(Path(word.removeprefix("--dest=")) for word in command if word.startswith("--dest="))
        python = next(word.rpartition("=")[2] for word in command if word.startswith("--python-version="))
        (folder / f"yaml-cp{python.replace('.', '')}.whl").write_text(python)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip()
    monkeypatch.setattr(subprocess, "run", pip)
    return pip


def test_fetched_once_for_each_python(pip: Pip, tmp_path: Path) -> None:
    parcel = fetch_wheels(ROOT, OPTIONS, tmp_path)
    assert [name for name, _ in parcel.files] == ["yaml-cp312.whl", "yaml-cp313.whl"]
    assert f"wheels-{parcel.key}" == wheels_name(ROOT, OPTIONS)
    assert all("--only-binary=:all:" in call and "--platform=manylinux_2_28_x86_64" in call for call in pip.calls)
    assert fetch_wheels(ROOT, OPTIONS, tmp_path) == parcel
    assert len(pip.calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == [f"wheels-{parcel.key}"]


def test_the_python_of_the_image() -> None:
    assert pythons_of(replace(OPTIONS, instance_type="ml.p3.2xlarge")) == ("3.12",)
    assert pythons_of(replace(OPTIONS, image_uri="me/image:torch-py311-x")) == ("3.11",)
    assert pythons_of(replace(OPTIONS, image_uri="me/python:happy3")) == ("3.12", "3.13")
    assert wheels_name(ROOT, replace(OPTIONS, network_isolation=False)) == ""
    assert wheels_name(ROOT, replace(OPTIONS, image_tag="py312-x")) == "", "wrn's own image contains them"
    in_subnet = replace(OPTIONS, network_isolation=False, subnets=("subnet-1",), security_groups=("sg-1",))
    assert wheels_name(ROOT, in_subnet) == wheels_name(ROOT, OPTIONS) != ""


def test_what_pip_cannot_have(pip: Pip, tmp_path: Path) -> None:
    pip.complaint = "WARNING: x\nERROR: No matching distribution at https://me:secret@index/simple for yaml\n"
    with pytest.raises(AwsError, match=r"for Python 3.12 .*No matching distribution at <address> for yaml") as caught:
        fetch_wheels(ROOT, OPTIONS, tmp_path)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    pip.complaint = "WARNING: broken by 'SSLError([SSL: CERTIFICATE_VERIFY_FAILED])'\nERROR: No matching distribution\n"
    with pytest.raises(AwsError, match="set PIP_CERT"):
        fetch_wheels(ROOT, OPTIONS, tmp_path)


@pytest.mark.parametrize(("isolated", "fit"), [(False, True), (True, True), (True, False)])
def test_the_container_installs_from_them(isolated: bool, fit: bool, tmp_path: Path) -> None:
    tree = tmp_path / "code"
    (tree / "src/wrn/aws").mkdir(parents=True)
    for name in ("container.sh", "installed.py"):
        (tree / "src/wrn/aws" / name).write_bytes((ROOT / "src/wrn/aws" / name).read_bytes())
    (tree / "src/requirements.txt").write_text("yaml\n")
    (tree / "src/train.py").touch()
    fake = tmp_path / "bin/python"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/bash\n[ "$1" != - ] || exit 1\nprintf "%s\\n" "$*" >> {tmp_path}/calls\n')
    if not fit:  # for a Python other than the image's
        with fake.open("a") as script:
            script.write('case "$*" in *--no-index*) exit 1 ;; esac\n')
    fake.chmod(0o755)
    if isolated:
        (tmp_path / "ml/input/data/wheels").mkdir(parents=True)
    environ = {"PATH": f"{fake.parent}:/usr/bin:/bin", "SAGEMAKER_BASE_DIR": str(tmp_path / "ml")}
    subprocess.run(["bash", str(tree / "src/wrn/aws/container.sh"), "--lr", "1"], env=environ, check=True)
    _, *installs, train = (tmp_path / "calls").read_text().splitlines()
    offline, online = f"--no-index --find-links {tmp_path}/ml/input/data/wheels ", ""
    ways = ([offline] if isolated else []) + ([online] if not (isolated and fit) else [])
    for install, way in zip(installs, ways, strict=True):
        assert install.endswith(f"--root-user-action ignore {way}-r src/requirements.txt")
    assert train == "src/train.py --lr 1"
