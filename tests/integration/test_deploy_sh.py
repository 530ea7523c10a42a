"""deploy.sh runs the code of its own folder, and passes every word on unchanged, whatever it contains."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    """A folder with deploy.sh, and an installed `wrn` whose Python records the arguments of `python -m wrn`."""
    shutil.copy(ROOT / "deploy.sh", tmp_path / "deploy.sh")
    python = fake(tmp_path / "bin/python3", recording(tmp_path))
    install(tmp_path / "bin/wrn", python)
    return tmp_path


def recording(folder: Path) -> str:
    return f"[ \"$1\" = -m ] || exit 0; shift; printf '%s\\0' \"$@\" > '{folder}/words'"


def install(path: Path, python: Path) -> None:
    """A `wrn` as pip makes it."""
    path.write_text(f"#!{python}\nraise SystemExit('the installed wrn ran')\n")
    path.chmod(0o755)


def fake(path: Path, line: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)
    return path


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
    # Without the name of the module.
    return (words.read_bytes().decode().split("\0")[1:-1] if words.exists() else []), done


def test_short_forms(door: Path) -> None:
    words, done = call(door, "-r", "eu-west-1", "-i", "ml.g5.xlarge", "-c", "2", "-s", "-m", "-n", "--lr", "0.2")
    assert done.returncode == 0, done.stderr
    assert words == [
        "deploy", "--region=eu-west-1", "--instance-type=ml.g5.xlarge", "--instance-count=2", "--spot", "--monitor",
        "--dry-run", "--lr", "0.2",
    ]  # fmt: skip
    assert call(door, "-h")[0] == ["deploy", "--help"]
    assert call(door)[0] == ["deploy"]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["-sn"], ["--spot", "--dry-run"]),
        (["-smnh"], ["--spot", "--monitor", "--dry-run", "--help"]),
        (["-reu-west-1"], ["--region=eu-west-1"]),
        (["-c2", "-s"], ["--instance-count=2", "--spot"]),
        (["-snreu-west-1"], ["--spot", "--dry-run", "--region=eu-west-1"]),
        (["-mi", "ml.g5.xlarge", "-n"], ["--monitor", "--instance-type=ml.g5.xlarge", "--dry-run"]),
        (["-sr", "-n"], ["--spot", "--region=-n"]),
        (["-rsn"], ["--region=sn"]),
        # Not ours alone: `wrn deploy` says what it makes of them.
        (["-sx", "-", "--", "-0.1", "-1", "--sn", "-sn=1"], ["-sx", "-", "--", "-0.1", "-1", "--sn", "-sn=1"]),
    ],
)
def test_short_flags_may_be_joined(words: list[str], flags: list[str], door: Path) -> None:
    got, done = call(door, *words)
    assert done.returncode == 0, done.stderr
    assert got == ["deploy", *flags]


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


@pytest.mark.parametrize("flag", ["-r", "-i", "-c", "-snr"])
def test_a_flag_without_its_value(door: Path, flag: str) -> None:
    words, done = call(door, flag)
    assert (words, done.returncode) == ([], 2)
    assert f"-{flag[-1]} needs a value" in done.stderr


def test_a_switch_that_is_neither_on_nor_off(door: Path) -> None:
    words, done = call(door, USE_SPOT="$(touch x)")
    assert (words, done.returncode) == ([], 2)
    assert "give true or false" in done.stderr
    assert not (door / "x").exists()


def test_the_exit_code_is_that_of_wrn(door: Path) -> None:
    fake(door / "bin/python3", '[ "$1" != -m ] || exit 3')
    assert call(door)[1].returncode == 3


@pytest.mark.parametrize("installed", ["nothing", "no Python script", "lacks a package"])
def test_without_a_usable_python_the_folder_makes_its_own(installed: str, door: Path) -> None:
    if installed == "nothing":
        (door / "bin/wrn").unlink()
    elif installed == "no Python script":
        fake(door / "bin/wrn", "exit 9")
    else:
        fake(door / "bin/python3", "exit 1")
    fake(door / "made", recording(door))
    script = f"mkdir -p '{door}/.venv/bin' && cp '{door}/made' '{door}/.venv/bin/python'"
    fake(door / "bin/make", f'[ "$3" = "{door}" ] && [ "$4" = .venv/.installed-aws ] || exit 8; {script}')
    words, done = call(door, "-n")
    assert done.returncode == 0, done.stderr
    assert words == ["deploy", "--dry-run"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Another clone, with a program that says which code runs; the `wrn` on the path is that of this clone."""
    package = tmp_path / "clone B/src/wrn"
    (package / "aws").mkdir(parents=True)
    shutil.copy(ROOT / "deploy.sh", tmp_path / "clone B")
    shutil.copy(ROOT / "src/wrn/aws/installed.py", package / "aws")
    (tmp_path / "clone B/src/requirements.txt").write_text("PyYAML\n")
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; print(__file__, *sys.argv[1:])\n")
    (tmp_path / "bin").mkdir()
    install(tmp_path / "bin/wrn", Path(sys.executable))
    return tmp_path / "clone B"


def code_that_runs(script: Path | str, **more: Any) -> str:
    done = subprocess.run([script, "-s"], capture_output=True, text=True, check=True, **more)
    return str(done.stdout)


def test_the_code_is_that_of_its_own_folder_whatever_is_installed(clone: Path, tmp_path: Path) -> None:
    own = f"{clone.resolve()}/src/wrn/__main__.py deploy --spot\n"
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    assert code_that_runs(clone / "deploy.sh", env={"PATH": path}, cwd=tmp_path) == own
    # Not even where the working directory or PYTHONPATH has another.
    environ = {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    assert code_that_runs(clone / "deploy.sh", env=environ, cwd=ROOT / "src") == own
    # A clone that was copied with its .venv, whose installed wrn is that of the original.
    fake(clone / ".venv/bin/python", f"exec '{sys.executable}' \"$@\"")
    fake(tmp_path / "bin/make", "exit 0")
    assert code_that_runs(clone / "deploy.sh", env={"PATH": path}, cwd=tmp_path) == own


def test_through_links_it_finds_its_own_folder(clone: Path, tmp_path: Path) -> None:
    own = f"{clone.resolve()}/src\n"
    install(tmp_path / "bin/wrn", fake(tmp_path / "bin/python3", '[ "$1" != -m ] || printf "%s\\n" "$PYTHONPATH"'))
    (tmp_path / "links").mkdir()
    (tmp_path / "links/relative").symlink_to("../clone B/deploy.sh")
    (tmp_path / "links/second").symlink_to("relative")
    (tmp_path / "links/absolute").symlink_to(clone / "deploy.sh")
    (tmp_path / "linked folder").symlink_to("links")
    # With CDPATH, `cd` would go elsewhere and print where.
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "CDPATH": str(ROOT)}
    for script in ("links/relative", "links/second", "links/absolute", "linked folder/second", "clone B/deploy.sh"):
        assert code_that_runs(tmp_path / script, env=environ, cwd=tmp_path) == own
        assert code_that_runs(f"./{script}", env=environ, cwd=tmp_path) == own


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
    run = f"PYTHONPATH='{ROOT / 'src'}' exec '{sys.executable}' '{tmp_path}/watched.py' \"$@\""
    python = fake(tmp_path / "bin/python3", f'[ "$1" = -m ] || exit 0; shift 2; {run}')
    install(tmp_path / "bin/wrn", python)
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    best = 60.0
    for _ in range(3):
        started = processor_seconds()
        command = ["/bin/bash", str(tmp_path / "deploy.sh"), "--dry-run"]
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
