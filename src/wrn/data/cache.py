"""Decoded data sets in one flat file each, loaded by memory map.

The file is in safetensors' format: a header with the shapes and our facts, then the arrays as they are in memory.
A cache is a convenience: one that is damaged is made again, one that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wrn.data.dataset import Dataset, Split

FORMAT = 1


def load_cached(identity: str, near: Path, build: Callable[[], Dataset]) -> Dataset:
    """The data set of that identity: from its cache, else built and then cached.

    identity: says which source files, in which state; another state is another cache.
    near: the folder of the source files. The cache goes beside them, or where that is not allowed, into the user's
        cache folder.
    """
    name = f"{hashlib.sha256(f'{FORMAT} {identity}'.encode()).hexdigest()[:24]}.safetensors"
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


def _checksum(tensors: dict[str, Tensor]) -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().reshape(-1).view("u1").data, checksum)
    return f"{checksum:08x}"


def _read(path: Path, identity: str) -> Dataset | None:
    """The cached data set, or None where there is none that is whole and of this identity."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["wrn"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if facts.pop("identity") != identity or facts.pop("checksum") != _checksum(tensors):
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
    # Two processes may write at once: each its own temporary file, the last rename wins, both are right.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"wrn": json.dumps(facts)})
        temporary.replace(path)
    except (OSError, SafetensorError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True
