"""deploy.sh passes every word on unchanged, whatever it contains."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "a b",
    "it's",
    'say "hi"',
    "$(touch x)",
    "`touch x`",
    "a; touch x",
    "a && touch x",
    "*",
    "-n",
    "\\",
    "ä\n b",
    "",
]


@pytest.fixture
def door(tmp_path: Path) -> Path:
    """A folder with deploy.sh, and a `wrn` on the path that records its arguments."""
    shutil.copy(ROOT / "deploy.sh", tmp_path / "deploy.sh")
    fake(tmp_path / "bin/wrn", f"printf '%s\\0' \"$@\" > '{tmp_path}/words'")
    return tmp_path


def fake(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


def call(door: Path, *arguments: str, **variables: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """The arguments that `wrn` got, and how deploy.sh ended."""
    environ = {"PATH": f"{door}/bin:/usr/bin:/bin", **variables}
    done = subprocess.run(
        ["bash", str(door / "deploy.sh"), *arguments],
        cwd=door,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    words = door / "words"
    return (words.read_bytes().decode().split("\0")[:-1] if words.exists() else []), done


def test_short_forms(door: Path) -> None:
    words, done = call(door, "-r", "eu-west-1", "-i", "ml.g5.xlarge", "-c", "2", "-s", "-m", "-n", "--lr", "0.2")
    assert done.returncode == 0, done.stderr
    assert words == [
        "deploy", "--region=eu-west-1", "--instance-type=ml.g5.xlarge", "--instance-count=2", "--spot", "--monitor",
        "--dry-run", "--lr", "0.2",
    ]  # fmt: skip
    assert call(door, "-h")[0] == ["deploy", "--help"]
    assert call(door)[0] == ["deploy"]


def test_variables_come_first_so_that_flags_win(door: Path) -> None:
    names = {"AWS_REGION": "r", "S3_BUCKET": "b", "SAGEMAKER_ROLE_NAME": "n", "INSTANCE_TYPE": "t", "USE_SPOT": "true"}
    words, _ = call(door, "-r", "mine", **names)
    assert words == [
        "deploy", "--region=r", "--bucket=b", "--role-name=n", "--instance-type=t", "--spot", "--region=mine",
    ]  # fmt: skip
    assert call(door, USE_SPOT="false")[0] == ["deploy"]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_are_only_values(door: Path, value: str) -> None:
    before = set(door.iterdir())
    words, done = call(door, "-r", value, "--name", value, f"--tags={value}", S3_BUCKET=value, INSTANCE_TYPE=value)
    assert done.returncode == 0, done.stderr
    given = [f"--bucket={value}", f"--instance-type={value}"] if value else []
    # A separate word that looks like a short form is one, as everywhere.
    own = "--dry-run" if value == "-n" else value
    assert words == ["deploy", *given, f"--region={value}", "--name", own, f"--tags={value}"]
    assert set(door.iterdir()) - before == {door / "words"}


@pytest.mark.parametrize("flag", ["-r", "-i", "-c"])
def test_a_flag_without_its_value(door: Path, flag: str) -> None:
    words, done = call(door, flag)
    assert (words, done.returncode) == ([], 2)
    assert f"{flag} needs a value" in done.stderr


def test_a_switch_that_is_neither_on_nor_off(door: Path) -> None:
    words, done = call(door, USE_SPOT="$(touch x)")
    assert (words, done.returncode) == ([], 2)
    assert "give true or false" in done.stderr
    assert not (door / "x").exists()


def test_the_exit_code_is_that_of_wrn(door: Path) -> None:
    fake(door / "bin/wrn", "exit 3")
    assert call(door)[1].returncode == 3


def test_without_wrn_the_folder_makes_its_own(door: Path) -> None:
    (door / "bin/wrn").unlink()
    made = f"'{door}/.venv/bin/wrn'"
    script = (
        f"mkdir -p .venv/bin; echo \"printf '%s\\\\0' made \\\"\\$@\\\" > '{door}/words'\" > {made}; chmod +x {made}"
    )
    fake(door / "bin/make", f'[ "$4" = .venv/.installed-aws ] || exit 9; cd "$3"; {script}')
    words, done = call(door, "-n")
    assert done.returncode == 0, done.stderr
    assert words == ["made", "deploy", "--dry-run"]


WATCHED = """
import os, sys, time

def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "sleep"):
        os.write(2, f"it waits: {event} {arguments}".encode())
        os._exit(9)

sys.addaudithook(forbid)
time.sleep = lambda seconds: sys.audit("sleep", seconds)
from wrn.cli import main
code = main(sys.argv[1:])
print("heavy:", sorted({"torch", "boto3"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def test_a_dry_run_is_quick(tmp_path: Path) -> None:
    """It imports nothing heavy, waits for nothing and computes little: under 2 s on an idle machine."""
    shutil.copy(ROOT / "deploy.sh", tmp_path / "deploy.sh")
    (tmp_path / "watched.py").write_text(WATCHED)
    fake(tmp_path / "bin/wrn", f"PYTHONPATH='{ROOT / 'src'}' exec '{sys.executable}' '{tmp_path}/watched.py' \"$@\"")
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    best = 60.0
    for _ in range(3):
        started = processor_seconds()
        command = ["/bin/bash", tmp_path / "deploy.sh", "--dry-run"]
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        best = min(best, processor_seconds() - started)
    assert json.loads(done.stdout)[-1]["operation"] == "CreateTrainingJob"
    assert done.stderr.splitlines()[-1] == "heavy: []"
    assert best < 4


def processor_seconds() -> float:
    """CPU time of all children of this process, hardly affected by other load on the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
