"""CIFAR-100 and CIFAR-10 (Krizhevsky 2009) in any of the forms that people have on disk.

The python or the binary version, as the archive or as its extracted folder. Members are checked one by one, so that
a repacked archive is accepted if its members are unchanged. Archives are read as a stream, never extracted.
Finding and checking need no torch (the launcher does both); decoding does.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wrn.data.pickles import read_pickle
from wrn.errors import DataError
from wrn.filesystem import is_dir, is_file

if TYPE_CHECKING:
    from wrn.data.dataset import Dataset

PIXELS = 3 * 32 * 32
LARGEST_MEMBER = 1 << 28
"""Bytes. The largest official member has 155 million; larger ones than this are not read into memory."""
TITLES = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10"}

Members = dict[str, bytes]


@dataclass(frozen=True)
class Form:
    """One form of a data set on disk.

    folder: the name of the extracted folder, which is also the prefix of the archive's members.
    md5: the members that are read, with the checksums of the official files ("" if none is published: these
        are lists of names, checked after decoding).
    decode: turns the members into a data set.
    """

    dataset: str
    folder: str
    archive: str
    md5: Mapping[str, str]
    decode: Callable[[Form, Members, str], Dataset]


@dataclass(frozen=True)
class Found:
    """A form found on disk: `path` is the archive or the folder with the members."""

    form: Form
    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file or files that are read."""
        return tuple(self.path / name for name in self.form.md5) if is_dir(self.path) else (self.path,)

    def load(self) -> Dataset:
        """Read, check and decode. Raises DataError naming the bad file and the fix."""
        return self.form.decode(self.form, self.members(), str(self.path))

    def members(self) -> Members:
        """The members, checked. Raises DataError naming the bad file and the fix."""
        members = self._from_folder() if is_dir(self.path) else self._from_archive()
        for name, expected in self.form.md5.items():
            if name not in members:
                raise DataError(f"{self.path}: {name} is missing; download the data set again")
            if expected and _md5(members[name]) != expected:
                raise _altered(self.path, name)
        return members

    def _from_folder(self) -> Members:
        members = {}
        for name in self.form.md5:
            try:
                members[name] = (self.path / name).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataError(f"{self.path / name}: cannot be read ({error.strerror}); fix that") from None
        return members

    def _from_archive(self) -> Members:
        members: Members = {}
        try:
            with tarfile.open(self.path, "r|gz") as archive:
                for entry in archive:
                    name = entry.name.removeprefix("./").removeprefix(f"{self.form.folder}/")
                    if name in self.form.md5 and entry.isfile():
                        if entry.size > LARGEST_MEMBER:
                            raise _altered(self.path, name)
                        file = archive.extractfile(entry)
                        assert file is not None
                        members[name] = file.read()
        except PermissionError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror}); fix that") from None
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
            raise DataError(
                f"{self.path}: is truncated or damaged ({error}); delete it and download the data set again"
            ) from None
        return members


def _altered(origin: Path | str, name: str) -> DataError:
    return DataError(
        f"{origin}: {name} is altered or damaged (not the official file); delete it and download the data set again"
    )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def find_cifar(dataset: str, directory: Path) -> Found | None:
    """The first form of `cifar100` or `cifar10` in a folder: extracted, as an archive, or the folder itself.

    `directory` may also be the archive. An extracted folder with missing members counts only if nothing is complete.
    Raises DataError for a folder that cannot be read.
    """
    try:
        places = [found for form in FORMS if form.dataset == dataset for found in _places(form, directory)]
        whole = [found for found in places if all(is_file(file) for file in found.files)]
    except OSError as error:
        raise DataError(
            f"{directory}: cannot be read ({error.strerror}); fix that or give another --data-dir"
        ) from None
    return next(iter(whole + places), None)


def _places(form: Form, directory: Path) -> list[Found]:
    """Where parts of a form are, complete or not."""
    folders = [folder for folder in (directory / form.folder, directory) if any(is_file(folder / n) for n in form.md5)]
    archives = [file for file in (directory / form.archive, directory) if file.name == form.archive and is_file(file)]
    return [Found(form, path) for path in folders + archives]


def _decode_cifar100_python(form: Form, members: Members, origin: str) -> Dataset:
    meta = read_pickle(members["meta"], "meta")
    parts = {name: read_pickle(members[name], name) for name in ("train", "test")}
    fine = {name: np.array(part["fine_labels"]) for name, part in parts.items()}
    coarse = np.array(parts["train"]["coarse_labels"])
    return _dataset(
        form.dataset,
        origin,
        {name: (part["data"], fine[name]) for name, part in parts.items()},
        meta["fine_label_names"],
        meta["coarse_label_names"],
        _superclass_of(fine["train"], coarse),
    )


def _decode_cifar10_python(form: Form, members: Members, origin: str) -> Dataset:
    batches = [read_pickle(members[f"data_batch_{number}"], f"data_batch_{number}") for number in range(1, 6)]
    test = read_pickle(members["test_batch"], "test_batch")
    train = np.concatenate([b["data"] for b in batches]), np.concatenate([b["labels"] for b in batches])
    names = read_pickle(members["batches.meta"], "batches.meta")["label_names"]
    return _dataset(form.dataset, origin, {"train": train, "test": (test["data"], np.array(test["labels"]))}, names)


def _decode_cifar100_binary(form: Form, members: Members, origin: str) -> Dataset:
    rows = {name: _rows(members[f"{name}.bin"], 2) for name in ("train", "test")}
    return _dataset(
        form.dataset,
        origin,
        {name: (part[:, 2:], part[:, 1]) for name, part in rows.items()},
        _names(members, "fine_label_names.txt", origin),
        _names(members, "coarse_label_names.txt", origin),
        _superclass_of(rows["train"][:, 1], rows["train"][:, 0]),
    )


def _decode_cifar10_binary(form: Form, members: Members, origin: str) -> Dataset:
    train = np.concatenate([_rows(members[f"data_batch_{n}.bin"], 1) for n in range(1, 6)])
    test = _rows(members["test_batch.bin"], 1)
    parts = {"train": (train[:, 1:], train[:, 0]), "test": (test[:, 1:], test[:, 0])}
    return _dataset(form.dataset, origin, parts, _names(members, "batches.meta.txt", origin))


def _dataset(
    name: str,
    origin: str,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: list[str],
    superclasses: list[str] | None = None,
    superclass_of: tuple[int, ...] = (),
) -> Dataset:
    import torch

    from wrn.data.dataset import Dataset, Split, channel_statistics

    splits = {}
    for part, (pixels, labels) in parts.items():
        if len(pixels) != len(labels) or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{origin}: images and labels of {part} do not match; download the data set again")
        images = torch.from_numpy(np.array(pixels, dtype=np.uint8).reshape(-1, 3, 32, 32))
        splits[part] = Split(images, torch.from_numpy(np.array(labels, dtype=np.int64)))
    mean, std = channel_statistics(splits["train"].images)
    return Dataset(
        name,
        origin,
        splits["train"],
        splits["test"],
        tuple(classes),
        tuple(superclasses or ()),
        superclass_of,
        mean,
        std,
    )


def _rows(data: bytes, labels: int) -> np.ndarray:
    """Records of the binary version, uint8 (N, labels + 3072)."""
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, labels + PIXELS)


def _superclass_of(fine: np.ndarray, coarse: np.ndarray) -> tuple[int, ...]:
    """The superclass of each class, taken from the images, which have both labels."""
    table = dict(zip(fine.tolist(), coarse.tolist(), strict=True))
    return tuple(table[label] for label in range(len(table)))


def _names(members: Members, file: str, origin: str) -> list[str]:
    """The names in a text file, one per line; line endings and empty lines do not matter."""
    names = [line.strip() for line in members[file].decode("utf-8", "replace").splitlines() if line.strip()]
    if _md5("\n".join(names).encode()) != _NAMES_MD5[file]:
        raise _altered(origin, file)
    return names


_NAMES_MD5 = {
    "fine_label_names.txt": "18d2388358c0483ca2d2be3aac2d399e",
    "coarse_label_names.txt": "7baf0fcbe8bbb8483327dd18f1cda1cb",
    "batches.meta.txt": "c4a53feb1b64ee5c7b132f9a245e037b",
}
"""Checksums of the names in their official order, joined by newlines."""

FORMS = (
    Form(
        "cifar100",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        {
            "meta": "7973b15100ade9c7d40fb424638fde48",
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
        _decode_cifar100_python,
    ),
    Form(
        "cifar100",
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        {
            "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
            "test.bin": "4499cfba6c016c1be1438163640a0898",
            "fine_label_names.txt": "",
            "coarse_label_names.txt": "",
        },
        _decode_cifar100_binary,
    ),
    Form(
        "cifar10",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        {
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        _decode_cifar10_python,
    ),
    Form(
        "cifar10",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        {
            "batches.meta.txt": "",
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        _decode_cifar10_binary,
    ),
)
