from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from tiny import tiny_dataset
from wrn.data import cache
from wrn.data.cache import load_cached
from wrn.data.dataset import Dataset


class Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Dataset:
        self.calls += 1
        return tiny_dataset()


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "user-cache" / name)
    return tmp_path / "user-cache"


@pytest.fixture
def source(tmp_path: Path, user_cache: Path) -> Path:
    path = tmp_path / "data/source"
    path.parent.mkdir()
    path.write_text("1")
    return path


def get(source: Path, build: Builder) -> Dataset:
    return load_cached("a source", [source], source.parent, build)


def cached(source: Path) -> list[Path]:
    return [path for path in (source.parent / ".wrn-cache").iterdir() if not path.name.startswith(".")]


def test_the_second_load_is_identical_and_builds_nothing(source: Path) -> None:
    build = Builder()
    first, second = get(source, build), get(source, build)
    assert build.calls == 1
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)
    facts = {key: value for key, value in vars(first).items() if key not in ("train", "test")}
    assert facts == {key: value for key, value in vars(second).items() if key not in ("train", "test")}


def test_changed_files_replace_the_cache(source: Path) -> None:
    build = Builder()
    get(source, build)
    source.write_text("another")
    get(source, build)
    assert build.calls == 2
    assert len(cached(source)) == 1
    source.unlink()
    get(source, build)
    assert build.calls == 3


@pytest.mark.parametrize("place", [0.01, 0.5, 0.999])
def test_a_damaged_cache_is_rebuilt(source: Path, place: float) -> None:
    build = Builder()
    get(source, build)
    (path,) = cached(source)
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(content)
    get(source, build)
    assert build.calls == 2
    path.write_bytes(path.read_bytes()[:-100])
    assert torch.equal(get(source, build).train.images, tiny_dataset().train.images)
    assert build.calls == 3


def test_a_read_only_folder_is_left_alone(source: Path, user_cache: Path) -> None:
    source.parent.chmod(0o555)
    build = Builder()
    get(source, build)
    get(source, build)
    assert build.calls == 1
    assert list(source.parent.iterdir()) == [source]
    assert len(list(user_cache.rglob("*.safetensors"))) == 1


def test_without_a_writable_place_for_the_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keys: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_tensors", full)
    build = Builder()
    get(source, build)
    get(source, build)
    assert build.calls == 2
    assert list((source.parent / ".wrn-cache").iterdir()) == []


def test_leftovers_of_a_killed_process_are_eventually_removed(source: Path) -> None:
    get(source, Builder())
    (path,) = cached(source)
    old, new = path.with_name(f".{path.name}.1"), path.with_name(f".{path.name}.2")
    for leftover in (old, new):
        leftover.touch()
    hours_ago = time.time() - 2 * cache.ABANDONED_SECONDS
    os.utime(old, (hours_ago, hours_ago))
    source.write_text("changed")
    get(source, Builder())
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_of_the_same_size_and_another_time_replaces_the_cache(source: Path) -> None:
    build = Builder()
    get(source, build)
    source.write_text("2")
    os.utime(source, (1e9, 1e9))
    get(source, build)
    assert build.calls == 2


def test_two_files_that_change_places_replace_the_cache(tmp_path: Path, user_cache: Path) -> None:
    """Same names, sizes and times: only the content is another."""
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    build = Builder()
    load_cached("files", paths, tmp_path, build)
    paths[0].rename(tmp_path / "c")
    paths[1].rename(paths[0])
    (tmp_path / "c").rename(paths[1])
    load_cached("files", paths, tmp_path, build)
    assert build.calls == 2


def test_a_file_rewritten_with_its_old_size_and_time_replaces_the_cache(source: Path) -> None:
    build = Builder()
    get(source, build)
    before = source.stat()
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    source.write_text("2")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_mtime_ns == before.st_mtime_ns
    get(source, build)
    assert build.calls == 2


def test_another_way_to_write_the_path_finds_the_same_cache(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder()
    get(source, build)
    monkeypatch.chdir(source.parent)
    get(Path(source.name), build)
    assert build.calls == 1


def test_another_place_for_the_cache(source: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    elsewhere = source.parent.parent / "elsewhere"
    monkeypatch.setenv("WRN_CACHE_DIR", str(elsewhere))
    build = Builder()
    for _ in range(2):
        load_cached("a source", [source], source.parent, build, lines.append)
    assert build.calls == 1
    assert list(source.parent.iterdir()) == [source]
    assert len(list(elsewhere.glob("*.safetensors"))) == 1
    assert not user_cache.exists()
    assert len(lines) == 2
    assert all(str(elsewhere) in line and "WRN_CACHE_DIR" in line for line in lines)


def test_a_path_that_is_not_utf8(tmp_path: Path, user_cache: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "x").touch()
    build = Builder()
    for _ in range(2):
        load_cached(f"what is in {folder}", [folder / "x"], folder, build)
    assert build.calls == 1
    assert len(list((folder / ".wrn-cache").glob("*.safetensors"))) == 1
    assert not user_cache.exists()
