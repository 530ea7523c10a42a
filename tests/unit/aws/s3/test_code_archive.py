"""The code archive: the same bytes from the same tree, and nothing else in it."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from wrn.aws.s3.code_archive import LARGEST, build_bundle, source_root
from wrn.errors import AwsError

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in WANTED:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (tmp_path / "tree/config.yaml").symlink_to("src/wrn/recipes/config.yaml")
    (tmp_path / "tree/configs").symlink_to("src/wrn/recipes/configs")
    return tmp_path / "tree"


WANTED = (
    "requirements.txt",
    "src/requirements.txt",
    "src/train.py",
    "src/wrn/__init__.py",
    "src/wrn/aws/container.sh",
    "src/wrn/data/cifar.py",
    "src/wrn/recipes/config.yaml",
    "src/wrn/recipes/configs/record.yaml",
)


def test_the_same_tree_gives_the_same_bytes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_bundle(tree)
    for path in tree.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            os.utime(path, (1, 1))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    second = build_bundle(tree)
    assert second == first
    assert second.name == f"wrn-{first.sha256}.tar.gz"
    (tree / "src/wrn/recipes/config.yaml").write_text("epochs: 101\n")
    assert build_bundle(tree).name != first.name


def test_a_checkout_with_windows_line_endings_gives_the_same_bytes(tmp_path: Path) -> None:
    """bash stops at `set -euo pipefail\\r`, and the job would fail after its instance has started."""
    bundle = build_bundle(ROOT)
    for name in bundle.files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes().replace(b"\n", b"\r\n"))
    assert b"\r" in (tmp_path / "src/wrn/aws/container.sh").read_bytes()
    assert build_bundle(tmp_path) == bundle


def test_what_is_in_it_and_how(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_bundle(tree).content)) as archive:
        assert tuple(archive.getnames()) == WANTED  # bare names: "./train.py" makes SageMaker's toolkit warn
        for entry in archive:
            assert (entry.isfile(), entry.mode, entry.uid, entry.gid) == (True, 0o644, 0, 0)
            assert (entry.uname, entry.gname, entry.mtime) == ("", "", 315532800)


def test_hostile_files_never_get_in(tree: Path) -> None:
    for name in (
        ".git/config",
        ".env",
        "key.pem",
        "data/cifar-100-python.tar.gz",
        "runs/x/model.safetensors",
        ".venv/lib/secret.py",
        "notes.py",
        "src/other.py",
        "src/wrn/.env",
        "src/wrn/key.pem",
        "src/wrn/.hidden.py",
        "src/wrn/.venv/lib/x.py",
        "src/wrn/credentials",
        "src/wrn/__pycache__/x.py",
        "src/wrn/data/batch.npy",
        "src/wrn/recipes/configs/.secret.yaml",
        "src/wrn/recipes/configs/id_rsa",
    ):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    (tree.parent / "outside").mkdir()
    (tree.parent / "outside/stolen.py").write_text("secret")
    (tree / "src/wrn/linked").symlink_to(tree.parent / "outside")
    assert build_bundle(tree).files == WANTED


@pytest.mark.parametrize("name", ["src/wrn/link.py", "src/wrn/recipes/configs/link.yaml", "requirements.txt"])
def test_a_link_is_refused(tree: Path, name: str) -> None:
    (tree.parent / "secret").write_text("secret")
    (tree / name).unlink(missing_ok=True)
    (tree / name).symlink_to(tree.parent / "secret")
    with pytest.raises(AwsError, match="is not a plain file"):
        build_bundle(tree)


def test_too_large(tree: Path) -> None:
    (tree / "src/wrn/big.py").write_bytes(os.urandom(LARGEST + 1))
    with pytest.raises(AwsError, match=r"1\.0 MB packed, above 1 MB; the largest file is src/wrn/big\.py"):
        build_bundle(tree)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(AwsError, match=r"has no src/train\.py, src/requirements\.txt, src/wrn; run this"):
        build_bundle(tmp_path)


def test_this_repository() -> None:
    assert source_root() == ROOT
    bundle = build_bundle(ROOT)
    assert {"src/train.py", "src/wrn/aws/container.sh", "src/wrn/cli/train.py", "requirements.txt"} <= set(bundle.files)
    assert {f"src/wrn/recipes/{name}" for name in ("config.yaml", "configs/record.yaml")} <= set(bundle.files)
    assert len(bundle.content) < 400_000


def test_the_container_gets_every_source_of_the_kernels() -> None:
    here = {path.name for path in (ROOT / "src/wrn/kernels").iterdir() if path.is_file()}
    assert {"norm_act.cpp", "convolve.cpp", "winograd.cpp", "lanes.h", "native.py"} <= here
    assert {f"src/wrn/kernels/{name}" for name in here} <= set(build_bundle(ROOT).files)


def test_the_container_gets_the_dependencies_of_the_package() -> None:
    import ast

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = ast.literal_eval(text.partition("\ndependencies = ")[2].partition("]\n")[0] + "]")

    def lines(name: str) -> list[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    assert lines("requirements.txt") == ["-r src/requirements.txt"]
    assert lines("src/requirements.txt") == [name for name in listed if not name.startswith(("torch", "numpy"))]
