"""The house: imports go down only, heavy libraries stay in their rooms, and no file is too long to read."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/wrn"
RANKS = {
    "cli": 0,
    "benchmarking": 1,  # times what the rooms below do
    **dict.fromkeys(("training", "serving", "reporting", "aws"), 2),
    "model": 3,
    **dict.fromkeys(("data", "kernels"), 4),
    **dict.fromkeys(("config", "errors", "signals", "streams", "strict_json", "tensors"), 5),
    **dict.fromkeys(("filesystem", "text", "wrapping"), 6),
}
"""A room may import rooms with a higher number; `config` may import `errors`."""

FORBIDDEN = {"aws": {"torch"}, "training": {"boto3", "botocore"}, "serving": {"boto3", "botocore"}, "config": {"torch"}}


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> set[str]:
    """Every module imported anywhere in the file, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__") or path.parent != PACKAGE
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    for module in imports_of(path):
        top, _, rest = module.partition(".")
        assert top not in FORBIDDEN.get(room, set()), f"{room} must not import {top}"
        if top != "wrn" or not rest:
            continue
        other = rest.split(".")[0]
        allowed = other == room or RANKS[other] > RANKS[room] or (room, other) == ("config", "errors")
        assert allowed, f"{room} imports {module}"


def test_the_test_above_can_fail() -> None:
    assert RANKS["data"] > RANKS["training"]
    assert imports_of(PACKAGE / "cli/train.py") >= {"wrn.training.run", "wrn.errors"}


@pytest.mark.parametrize("path", [path for path in FILES if room_of(path) == "aws"], ids=lambda path: path.stem)
def test_boto3_is_imported_inside_functions_only(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for inner in [] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ast.walk(node):
            names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else []
            names += [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
            assert not any(name.startswith(("boto3", "botocore")) for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_there_is_asked_in_one_place(path: Path) -> None:
    """pathlib's methods raise for unreadable folders, long names and NULs in some versions of Python only."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    asked = {ast.unparse(call.func) for call in calls if isinstance(call.func, ast.Attribute) and not call.args}
    asked -= {"entry.is_file", "entry.is_dir"}  # those of os.scandir are alike everywhere, and need no system call
    assert not [name for name in asked if name.endswith((".exists", ".is_file", ".is_dir"))], "use wrn.filesystem"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=str)
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys; from wrn.cli import main; main(['--help']); print(sorted(sys.modules))"
    best = 10.0
    for _ in range(5):
        started = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime)
    loaded = set(ast.literal_eval(done.stdout.split("\n")[-2]))
    assert "wrn.cli" in loaded
    assert not loaded & {"torch", "numpy", "pydantic", "yaml", "boto3", "botocore", "requests", "rich", "PIL"}
    # Of the processor's time, which others on the machine hardly change: 0.03 s on a quick one.
    assert best < 0.3


def test_the_configuration_needs_no_torch() -> None:
    code = "import sys; from wrn.cli import main; main(['config']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
