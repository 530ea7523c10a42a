"""Decoded images in one flat file for each source, loaded by memory map.

The file is in the safetensors format: a header with shapes and metadata, then the arrays as they are in memory.
The cache is optional: a damaged one is rebuilt, and if none can be written, the program works without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from wrn.config.paths import data_cache_dirs
from wrn.data.dataset import Dataset, Split
from wrn.filesystem import exists
from wrn.strict_json import to_json
from wrn.tensors import open_tensors, save_tensors
from wrn.text import printable

FORMAT = 3
ABANDONED_SECONDS = 3600
"""Age at which a half-written cache must have been left by a killed process."""


class Cache:
    """One cached thing: tensors, and facts that are JSON, made from files.

    folder: where it was found or written, else None.
    """

    def __init__(self, source: str, files: Iterable[Path], near: Path) -> None:
        """
        source: what is made from where, in words; each has one cache, which is replaced when the files change.
        near: the folder of the files. The cache goes into `.wrn-cache` there, or if that is not writable, into the
            user's cache folder; with $WRN_CACHE_DIR always into that.
        """
        self._identity = f"{FORMAT} {printable(source)} {_state(files, near)}"
        self._name = f"{hashlib.sha256(source.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.safetensors"
        self._folders = data_cache_dirs(near)
        self.folder: Path | None = None

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the facts; None if there is no intact cache of these files as they are."""
        for folder in self._folders:
            found = _read(folder / self._name, self._identity)
            if found is not None:
                self.folder = folder
                return found
        return None

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Into the first folder that can be written, if any."""
        for folder in self._folders:
            if _write(folder / self._name, self._identity, tensors, facts):
                self.folder = folder
                return


def load_cached(
    source: str,
    files: Iterable[Path],
    near: Path,
    build: Callable[[], Dataset],
    on_message: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """The data set built from `files`: from its cache, else built and then cached. `source` and `near` are Cache's.

    on_message: told where the cache is.
    """
    cache = Cache(source, files, near)
    found = cache.read()
    if found is not None and (dataset := _unpacked(*found)) is not None:
        on_message(cache_line(cache.folder))
        return dataset
    dataset = build()
    cache.write(*_packed(dataset))
    on_message(cache_line(cache.folder))
    return dataset


def cache_line(folder: Path | None) -> str:
    """Where the cache is, for people."""
    if folder is None:
        return "cache: no folder for it can be written; set WRN_CACHE_DIR to one, and the next start is quicker"
    return f"cache: {folder} holds the decoded images (WRN_CACHE_DIR sets another folder)"


def _state(files: Iterable[Path], near: Path) -> str:
    """Changes when a file is added, removed, changed, or exchanged for another of the same size and time.

    However the path to the folder is written, it stays the same.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            facts = file.stat()
            # The time of the last change of the inode, unlike that of the content, cannot be set.
            what = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino} {facts.st_ctime_ns}"
        except OSError:
            what = "is missing"
        digest.update(os.fsencode(os.path.relpath(file, near)) + f" {what}\n".encode())
    return digest.hexdigest()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().reshape(-1).view("u1").data, checksum)
    return f"{checksum:08x}"


def _packed(dataset: Dataset) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {
        f"{name}_{field}": getattr(split, field).contiguous()
        for name, split in (("train", dataset.train), ("test", dataset.test))
        for field in ("images", "labels")
    }
    return tensors, {key: value for key, value in vars(dataset).items() if key not in ("train", "test")}


def _unpacked(tensors: dict[str, Tensor], facts: dict[str, Any]) -> Dataset | None:
    try:
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}
        plain |= {name: Split(tensors[f"{name}_images"], tensors[f"{name}_labels"]) for name in ("train", "test")}
        return Dataset(**plain)
    except (KeyError, TypeError):
        return None


def _read(path: Path, identity: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The cached tensors and facts, or None if there are no intact ones with this identity."""
    try:
        with open_tensors(path) as file:
            facts: dict[str, Any] = json.loads(file.metadata()["wrn"])
            if facts.pop("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return (tensors, facts) if facts.pop("checksum") == _checksum(tensors) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, identity: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bool:
    facts = {**facts, "identity": identity, "checksum": _checksum(tensors)}
    # Two processes may write at once: each has its own temporary file, and the last rename wins; both are correct.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if not _may_write(path.parent):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        save_tensors(temporary, tensors, {"wrn": to_json(facts)})
        temporary.replace(path)
    except (OSError, SafetensorError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _may_write(folder: Path) -> bool:
    """Whether the nearest existing folder is meant to be writable: root could write to a read-only one, too."""
    existing = next(place for place in (folder, *folder.absolute().parents) if exists(place))
    return bool(existing.stat().st_mode & 0o222) and os.access(existing, os.W_OK)


def _sweep(path: Path) -> None:
    """Remove half-written caches that a killed process left behind."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                leftover.unlink()
