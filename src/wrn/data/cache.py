"""Decoded data sets in one flat file each, loaded by memory map.

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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wrn.data.dataset import Dataset, Split
from wrn.strict_json import to_json
from wrn.tensors import save_tensors

FORMAT = 2
ABANDONED_SECONDS = 3600
"""Age at which a half-written cache must have been left by a killed process."""


def load_cached(source: str, files: Iterable[Path], near: Path, build: Callable[[], Dataset]) -> Dataset:
    """The data set built from `files`: from its cache, else built and then cached.

    source: what is built from where, in words; each has one cache, which is replaced when the files change.
    near: the folder of the files. The cache goes next to them, or if that is not writable, into the user's cache
        folder.
    """
    identity = f"{FORMAT} {source} {_state(files)}"
    name = f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.safetensors"
    folders = (near / ".wrn-cache", Path(platformdirs.user_cache_dir("wrn")))
    for folder in folders:
        dataset = _read(folder / name, identity)
        if dataset is not None:
            return dataset
    dataset = build()
    for folder in folders:
        if _write(folder / name, identity, dataset):
            break
    return dataset


def _state(files: Iterable[Path]) -> str:
    """Changes when a file is added, removed or changed."""
    digest = hashlib.sha256()
    for file in files:
        try:
            facts = file.stat()
            digest.update(f"{file} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{file} is missing\n".encode())
    return digest.hexdigest()


def _checksum(tensors: dict[str, Tensor]) -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().reshape(-1).view("u1").data, checksum)
    return f"{checksum:08x}"


def _read(path: Path, identity: str) -> Dataset | None:
    """The cached data set, or None if there is no intact one with this identity."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["wrn"])
            if facts.pop("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if facts.pop("checksum") != _checksum(tensors):
            return None
        facts |= {name: Split(tensors[f"{name}_images"], tensors[f"{name}_labels"]) for name in ("train", "test")}
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}
        return Dataset(**plain)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, identity: str, dataset: Dataset) -> bool:
    tensors = {
        f"{name}_{field}": getattr(split, field).contiguous()
        for name, split in (("train", dataset.train), ("test", dataset.test))
        for field in ("images", "labels")
    }
    facts = {key: value for key, value in vars(dataset).items() if key not in ("train", "test")}
    facts |= {"identity": identity, "checksum": _checksum(tensors)}
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
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return bool(existing.stat().st_mode & 0o222) and os.access(existing, os.W_OK)


def _sweep(path: Path) -> None:
    """Remove half-written caches that a killed process left behind."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                leftover.unlink()
