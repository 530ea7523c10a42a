"""The house: imports go down only, heavy libraries stay in their rooms, and no file is too long to read."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/wrn"
FLOORS = (
    ("errors", "strict_json", "text", "wrapping", "filesystem", "signals", "streams", "tensors"),
    ("config",),
    ("data", "kernels"),
    ("model",),
    ("distributed", "evaluation", "trackers"),
    ("training", "serving", "aws"),
    ("bench",),
    ("cli",),
)
"""The rooms of src/wrn from the bottom up: a room imports from lower floors, and from its own floor without circles."""

LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

WINGS = ("training", "serving", "aws")
"""These do not import each other."""

FORBIDDEN = {
    **{room: {"boto3", "botocore", "s3transfer"} for room in LEVEL if room != "aws"},
    "aws": {"torch"},
    "config": {"torch", "boto3", "botocore"},
}


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Every module imported anywhere in the file, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            package = PACKAGE.parent / (node.module or "").replace(".", "/")
            modules = [alias.name for alias in node.names if (package / f"{alias.name}.py").is_file()]
            found |= {f"{node.module}.{name}" for name in modules}
            found |= {node.module or ""} if len(modules) < len(node.names) else set()
    return found


FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__") or path.parent != PACKAGE
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    for module in imports_of(path):
        top, _, rest = module.partition(".")
        assert top not in FORBIDDEN[room], f"{room} must not import {top}"
        if top != "wrn" or not rest:
            continue
        other = rest.split(".")[0]
        assert LEVEL[other] <= LEVEL[room], f"{room} imports {module}"
        assert other == room or not {room, other} <= set(WINGS), f"{room} imports {module}"


def test_no_files_import_each_other_in_a_circle() -> None:
    below = {name_of(path): {module for module in imports_of(path) if module.startswith("wrn.")} for path in FILES}
    below["wrn.cli.deploy"].discard("wrn.cli.deploy_local")  # inside a function; both are to change
    while below:
        free = {name for name, modules in below.items() if not modules & set(below)}
        assert free, f"in or behind a circle: {sorted(below)}"
        below = {name: modules for name, modules in below.items() if name not in free}


def test_the_tests_above_can_fail() -> None:
    assert LEVEL["data"] < LEVEL["training"]
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
def test_no_file_is_too_long(path: Path) -> None:
    """Tests may be longer where the subject is one."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (400 if path in FILES else 500)


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


def named_files(text: str) -> set[str]:
    """The paths that the map names, below src/wrn: an indented line belongs to the folder above it."""
    found: set[str] = set()
    folders: list[str] = []
    for line in text.split("```")[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"(?:[\w/]+(?:\.\w+|/)(?:, )?)+", line.strip())
        if names is None:
            continue
        del folders[depth:]
        for name in names[0].rstrip(", ").split(", "):
            found.add("/".join([*folders, name]).replace("//", "/"))
            if name.endswith("/"):
                folders.append(name.rstrip("/"))
    return found


def test_the_map_names_every_file() -> None:
    named = named_files((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert {name for name in named if not (PACKAGE / name).exists()} == set()
    whole = tuple(name for name in named if name.endswith("/") and name in ("cli/", "bench/", "data/augment/"))
    missing = {
        name
        for path in FILES
        if (name := str(path.relative_to(PACKAGE))) not in named
        and path.stem != "__init__"
        and not name.startswith(whole)
    }
    assert missing == set()
