"""Small stand-ins for CIFAR's files, in every form that people have on disk, and pictures in class folders."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wrn.data import cifar

COUNT = {"train": 30, "test": 10}
FINE = [f"thing {number}" for number in range(5)]
COARSE = ["odd", "even"]
TITLE = "cifar-100-python.tar.gz"


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def old_pickle(value: Any) -> bytes:
    """The oldest protocol in which arrays need no more names than in the official files, which Python 2 wrote."""
    return pickle.dumps(value, protocol=3)


def cifar100_members(form: str) -> dict[str, bytes]:
    """The same 30 + 10 images of 5 classes as the members of either form."""
    images = {part: pixels(count, seed) for seed, (part, count) in enumerate(COUNT.items())}
    fine = {part: np.arange(count) % 5 for part, count in COUNT.items()}
    if form == "cifar-100-binary":
        rows = {
            f"{part}.bin": np.concatenate(
                [(fine[part] % 2)[:, None], fine[part][:, None], images[part]], axis=1, dtype=np.uint8, casting="unsafe"
            ).tobytes()
            for part in COUNT
        }
        names = {"fine_label_names.txt": FINE, "coarse_label_names.txt": COARSE}
        return rows | {file: ("\r\n".join(lines) + "\r\n\r\n").encode() for file, lines in names.items()}
    parts = {
        part: {"data": images[part], "fine_labels": fine[part].tolist(), "coarse_labels": (fine[part] % 2).tolist()}
        for part in COUNT
    }
    meta = {"fine_label_names": FINE, "coarse_label_names": COARSE}
    return {"meta": old_pickle(meta)} | {part: old_pickle(content) for part, content in parts.items()}


def cifar10_members(form: str) -> dict[str, bytes]:
    """Six batches of 5 images of 5 classes."""
    names = {f"data_batch_{number}": number for number in range(1, 6)} | {"test_batch": 6}
    if form == "cifar-10-batches-bin":
        rows = {
            f"{name}.bin": np.concatenate([np.arange(5, dtype=np.uint8)[:, None], pixels(5, seed)], axis=1).tobytes()
            for name, seed in names.items()
        }
        return rows | {"batches.meta.txt": "\n".join(FINE).encode() + b"\n\n"}
    batches = {name: old_pickle({"data": pixels(5, seed), "labels": list(range(5))}) for name, seed in names.items()}
    return batches | {"batches.meta": old_pickle({"label_names": FINE})}


def members(form: str) -> dict[str, bytes]:
    return (cifar100_members if "100" in form else cifar10_members)(form)


def accept_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the stand-ins' checksums for the official ones."""
    forms = []
    for form in cifar.FORMS:
        content = members(form.folder)
        md5 = {name: hashlib.md5(content[name]).hexdigest() if known else "" for name, known in form.md5.items()}
        forms.append(replace(form, md5=md5))
    monkeypatch.setattr(cifar, "FORMS", tuple(forms))
    names = {"fine_label_names.txt": FINE, "coarse_label_names.txt": COARSE, "batches.meta.txt": FINE}
    sums = {file: hashlib.md5("\n".join(lines).encode()).hexdigest() for file, lines in names.items()}
    monkeypatch.setattr(cifar, "_NAMES_MD5", sums)


def write_folder(directory: Path, form: str) -> Path:
    folder = directory / form
    folder.mkdir(parents=True)
    for name, content in members(form).items():
        (folder / name).write_bytes(content)
    return folder


def archive_bytes(form: str, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in {"readme.html": b"hello", **members(form)}.items():
            entry = tarfile.TarInfo(f"{prefix}{form}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def archive_name(form: str) -> str:
    return next(known.archive for known in cifar.FORMS if known.folder == form)


def write_archive(directory: Path, form: str, prefix: str = "") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / archive_name(form)
    path.write_bytes(archive_bytes(form, prefix))
    return path


def write_pictures(directory: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 3) -> Path:
    """Class folders of noise, the size of each picture another."""
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in classes:
            folder = directory / part / name
            folder.mkdir(parents=True)
            for number in range(each):
                noise = draws.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{number}.png")
    return directory
