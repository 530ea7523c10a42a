"""Every flag that takes a path, with a path that cannot be used: one sentence that names the flag, and exit code 2."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = [
    "output-dir",
    "data-dir",
    "train-dir",
    "checkpoint-dir",
    "resume",
    "model-dir",
    "recipe",
    "albumentations-file",
]
FLAGS = [
    *((["train"], flag) for flag in CONFIG),
    *((["config"], flag) for flag in CONFIG),
    *((["plan"], flag) for flag in CONFIG),
    *((["deploy", "--dry-run"], flag) for flag in [*CONFIG, "write-json"]),
    (["deploy", "--local"], "local-dir"),
    (["evaluate", "--model-dir", "model"], "data-dir"),
    (["evaluate"], "model-dir"),
    (["predict", "x.png"], "model-dir"),
    (["fetch", "wrn-a"], "output-dir"),
    (["bench", "train"], "data-dir"),
    (["bench", "inference"], "model-dir"),
    (["bench", "data"], "output"),
    (["bench", "checkpoint"], "folder"),
]
QUICK = ["--dataset", "synthetic", "--depth", "10", "--widen-factor", "1", "--no-cpu-kernels"]
ITSELF = [
    (["train", *QUICK], "output-dir"),
    (["train", *QUICK], "model-dir"),
    (["train", *QUICK], "checkpoint-dir"),
    (["train", *QUICK], "resume"),
    (["train", *QUICK], "recipe"),
    (["train", "--dataset", "folder", "--no-cpu-kernels"], "data-dir"),
    (["train", "--dataset", "cifar100", "--no-download", "--no-cpu-kernels"], "data-dir"),
    (["deploy", "--dry-run", "--dataset", "folder"], "data-dir"),
    (["deploy", "--local", *QUICK], "local-dir"),
    (["evaluate"], "model-dir"),
    (["predict", "x.png"], "model-dir"),
    (["bench", "inference"], "model-dir"),
    (["bench", "checkpoint", *QUICK[2:6]], "folder"),
]
"""Commands that are given the unreadable folder itself."""

CHILD = """
import contextlib, io, json, os, sys
from wrn.cli import main
assert not os.access(sys.argv[1], os.X_OK)
results = []
for words in json.load(sys.stdin):
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as error:
            code = error.code
    results.append((code, errors.getvalue()))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Path, Path]]:
    """A folder that the commands may write to, and one that they may not even search."""
    with tempfile.TemporaryDirectory() as name:
        home, closed = Path(name, "home"), Path(name, "closed")
        home.mkdir()
        closed.mkdir()
        closed.chmod(0)
        yield home, closed
        closed.chmod(0o700)


def obey_modes() -> None:
    """Programs that root starts from now on may not read everything."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def run(commands: list[list[str]], home: Path, closed: Path) -> list[tuple[int, str]]:
    """The exit code and standard error of each, run without root's right to read everything."""
    environ = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(closed)],
        cwd=home,
        env=environ,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=200,
        preexec_fn=obey_modes if os.getuid() == 0 else None,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, error) for code, error in json.loads(done.stdout)]


def check(results: list[tuple[int, str]], commands: list[list[str]], flags: list[str]) -> None:
    wrong = [
        (words, code, error[-500:])
        for (code, error), words, flag in zip(results, commands, flags, strict=True)
        if code != 2 or "Traceback" in error or not {f"--{flag}", f"{flag.replace('-', '_')} (flag)"} & mentions(error)
    ]
    assert wrong == []


def mentions(error: str) -> set[str]:
    """The flags named in a message, an alias by its key too."""
    known = {f"--{flag}" for _, flag in FLAGS} | {f"{flag.replace('-', '_')} (flag)" for flag in CONFIG}
    named = {name for name in known if name in error}
    named |= {"--recipe"} if "recipe: " in error else set()
    return named | ({"--train-dir"} if "data_dir (flag)" in error else set())


@pytest.mark.parametrize("kind", ["below", "long", "nul", "quoted nul"])
def test_a_path_that_nothing_can_be_at(kind: str, places: tuple[Path, Path]) -> None:
    home, closed = places
    value = {"below": str(closed / "x"), "long": "a" * 300, "nul": "a\0b", "quoted nul": '"a\\u0000b"'}[kind]
    used = [
        (words, flag)
        for words, flag in FLAGS
        if kind != "quoted nul" or (flag in CONFIG and words[0] in ("train", "plan"))
    ]
    commands = [[*words, f"--{flag}", value] for words, flag in used]
    commands += [["train", "--recipe", f"{value.strip(chr(34))}.yaml"]]
    results = run(commands, home, closed)
    check(results, commands, [*(flag for _, flag in used), "recipe"])
    if kind == "below":
        assert all(str(closed) in error for _, error in results)


def test_a_folder_that_cannot_be_read(places: tuple[Path, Path]) -> None:
    home, closed = places
    commands = [[*words, f"--{flag}", str(closed)] for words, flag in ITSELF]
    results = run(commands, home, closed)
    check(results, commands, [flag for _, flag in ITSELF])
