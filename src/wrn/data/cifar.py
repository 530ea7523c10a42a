"""CIFAR-100 and CIFAR-10 (Krizhevsky 2009) from any of the forms that people have on disk.

The python or the binary version, as the archive or as its extracted folder. Members are checked one by one: an
archive may have been packed again, its members may not have changed. Archives are read as a stream, never extracted.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.pickles import read_pickle
from wrn.errors import DataError

PIXELS = 3 * 32 * 32
TITLES = {"cifar100": "CIFAR-100", "cifar10": "CIFAR-10"}

Members = dict[str, bytes]


@dataclass(frozen=True)
class Form:
    """One form of a data set on disk.

    folder: the name of the extracted folder, which is also the prefix of the archive's members.
    md5: the members that are read, with the checksums of the official files ("" where none is published).
    decode: the members to a data set.
    """

    dataset: str
    folder: str
    archive: str
    md5: Mapping[str, str]
    decode: Callable[[Form, Members, str], Dataset]


@dataclass(frozen=True)
class Found:
    """A form that lies somewhere: `path` is the archive or the folder with the members."""

    form: Form
    path: Path

    @property
    def identity(self) -> str:
        """Changes whenever the files do, so that what was cached from them is not served stale."""
        files = [self.path] if self.path.is_file() else [self.path / name for name in self.form.md5]
        facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{self.form.folder} {facts}"

    def load(self) -> Dataset:
        """Read, check and decode. Raises DataError naming the file that is wrong, and the fix."""
        members = self._from_folder() if self.path.is_dir() else self._from_archive()
        for name, expected in self.form.md5.items():
            if name not in members:
                raise DataError(f"{self.path}: {name} is missing in it; fetch the data set again")
            if expected and hashlib.md5(members[name], usedforsecurity=False).hexdigest() != expected:
                raise DataError(
                    f"{self.path}: {name} is altered or damaged (its md5 is not the official one); "
                    "delete it and fetch the data set again"
                )
        return self.form.decode(self.form, members, str(self.path))

    def _from_folder(self) -> Members:
        members = {}
        for name in self.form.md5:
            try:
                members[name] = (self.path / name).read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataError(f"{self.path / name}: cannot be read ({error.strerror}); mend that") from None
        return members

    def _from_archive(self) -> Members:
        members: Members = {}
        try:
            with tarfile.open(self.path, "r|gz") as archive:
                for entry in archive:
                    name = entry.name.removeprefix("./").removeprefix(f"{self.form.folder}/")
                    if name in self.form.md5 and entry.isfile():
                        file = archive.extractfile(entry)
                        assert file is not None
                        members[name] = file.read()
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
            raise DataError(
                f"{self.path}: is truncated or damaged ({error}); delete it and fetch the data set again"
            ) from None
        return members


def find_cifar(dataset: str, directory: Path) -> Found | None:
    """The first form of `cifar100` or `cifar10` in a folder: extracted, as an archive, or the folder itself."""
    for form in FORMS:
        if form.dataset != dataset:
            continue
        first = next(iter(form.md5))
        for folder in (directory / form.folder, directory):
            if (folder / first).is_file():
                return Found(form, folder)
        if (directory / form.archive).is_file():
            return Found(form, directory / form.archive)
    if directory.is_file():
        return next((Found(f, directory) for f in FORMS if f.dataset == dataset and f.archive == directory.name), None)
    return None


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
    rows = {name: _rows(members[f"{name}.bin"], 2, count, origin) for name, count in _SIZES.items()}
    for name, part in rows.items():
        if content_sum(part) != _CIFAR100_CONTENT[name]:
            raise DataError(f"{origin}: {name}.bin is altered or damaged; delete it and fetch the data set again")
    return _dataset(
        form.dataset,
        origin,
        {name: (part[:, 2:], part[:, 1]) for name, part in rows.items()},
        _names(members["fine_label_names.txt"]),
        _names(members["coarse_label_names.txt"]),
        _superclass_of(rows["train"][:, 1], rows["train"][:, 0]),
    )


def _decode_cifar10_binary(form: Form, members: Members, origin: str) -> Dataset:
    train = np.concatenate([_rows(members[f"data_batch_{n}.bin"], 1, 10_000, origin) for n in range(1, 6)])
    test = _rows(members["test_batch.bin"], 1, 10_000, origin)
    # No checksum of these files is published; a whole CIFAR-10 has as many images of each class.
    for part in (train, test):
        if np.bincount(part[:, 0], minlength=10).tolist() != [len(part) // 10] * 10:
            raise DataError(f"{origin}: the labels are not those of CIFAR-10; delete it and fetch the data set again")
    parts = {"train": (train[:, 1:], train[:, 0]), "test": (test[:, 1:], test[:, 0])}
    return _dataset(form.dataset, origin, parts, _names(members["batches.meta.txt"]))


def _dataset(
    name: str,
    origin: str,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: list[str],
    superclasses: list[str] | None = None,
    superclass_of: tuple[int, ...] = (),
) -> Dataset:
    splits = {}
    for part, (pixels, labels) in parts.items():
        if len(pixels) != len(labels) or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{origin}: images and labels of {part} do not fit together; fetch the data set again")
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


def _rows(data: bytes, labels: int, count: int, origin: str) -> np.ndarray:
    """Records of the binary version, uint8 (count, labels + 3072)."""
    if len(data) != count * (labels + PIXELS):
        raise DataError(f"{origin}: a file of it is cut short or too long; delete it and fetch the data set again")
    return np.frombuffer(data, dtype=np.uint8).reshape(count, labels + PIXELS)


def content_sum(rows: np.ndarray) -> int:
    """A checksum of the records, uint8 (N, length), that does not depend on their order."""
    return sum(zlib.crc32(row) * (zlib.adler32(row) | 1) for row in np.ascontiguousarray(rows)) % 2**64


def _superclass_of(fine: np.ndarray, coarse: np.ndarray) -> tuple[int, ...]:
    """The superclass of each class, read off the images that have both labels."""
    table = dict(zip(fine.tolist(), coarse.tolist(), strict=True))
    return tuple(table[label] for label in range(len(table)))


def _names(text: bytes) -> list[str]:
    return [line.strip() for line in text.decode("utf-8").splitlines() if line.strip()]


_SIZES = {"train": 50_000, "test": 10_000}

_CIFAR100_CONTENT = {"train": 11879173557214596957, "test": 10567541103918911683}
"""`content_sum` of the records of the official python version, in the layout of the binary version."""

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
        dict.fromkeys(("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"), ""),
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
        dict.fromkeys(("batches.meta.txt", *(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"), ""),
        _decode_cifar10_binary,
    ),
)
