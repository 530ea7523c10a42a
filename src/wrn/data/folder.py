"""Your own pictures: `train/<class>/*.png` and `test/<class>/*.png`, resized to 32x32."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from wrn.data.cache import load_cached
from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.pictures import SUFFIXES, read_picture
from wrn.errors import DataError

TEST_NAMES = ("test", "val", "valid", "validation")
"""Folders that may hold the test pictures, the first that exists."""


def is_image_folder(directory: Path) -> bool:
    return (directory / "train").is_dir()


def load_folder(directory: Path, *, skip_broken: bool = False) -> Dataset:
    """The pictures below `directory`, the classes being the sorted names of the folders in `train`.

    Raises DataError for a folder without pictures, a test class that train lacks, or a broken picture, which is
    named; with `skip_broken` broken ones are left out and counted in the data set's `origin`.
    """
    train = directory / "train"
    test = next((directory / name for name in TEST_NAMES if (directory / name).is_dir()), None)
    if not train.is_dir():
        raise DataError(
            f"{directory}: holds no folder train/; lay pictures out as train/<class>/*.png and test/<class>/"
        )
    if test is None:
        raise DataError(f"{directory}: holds no folder test/; put some pictures of each class into test/<class>/")
    classes = sorted(path.name for path in train.iterdir() if path.is_dir() and any(_pictures(path)))
    if not classes:
        raise DataError(f"{train}: holds no pictures; lay them out as train/<class>/*.png")
    strangers = sorted(
        path.name for path in test.iterdir() if path.is_dir() and path.name not in classes and any(_pictures(path))
    )
    if strangers:
        raise DataError(
            f"{test}: has classes that train lacks ({', '.join(strangers[:5])}); add them there or remove them"
        )
    listing = {
        part: [(p, label) for label, name in enumerate(classes) for p in _pictures(part / name)]
        for part in (train, test)
    }
    if not listing[test]:
        raise DataError(f"{test}: holds no pictures; put some of each class into test/<class>/")

    def build() -> Dataset:
        (train_split, broken_train), (test_split, broken_test) = (
            _read_all(listing[part], skip_broken) for part in (train, test)
        )
        broken = broken_train + broken_test
        origin = str(directory) + (f", {broken} broken pictures left out" if broken else "")
        mean, std = channel_statistics(train_split.images)
        return Dataset("folder", origin, train_split, test_split, tuple(classes), (), (), mean, std)

    return load_cached(_identity(directory, listing, skip_broken), directory, build)


def _pictures(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _identity(directory: Path, listing: dict[Path, list[tuple[Path, int]]], skip_broken: bool) -> str:
    """Changes when a picture comes, goes or changes."""
    digest = hashlib.sha256()
    for files in listing.values():
        for path, label in files:
            facts = path.stat()
            digest.update(f"{path.relative_to(directory)} {label} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return f"folder {directory.resolve()} {skip_broken} {digest.hexdigest()}"


def _read_all(files: list[tuple[Path, int]], skip_broken: bool) -> tuple[Split, int]:
    """The split, and how many broken pictures were left out of it."""

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, (path for path, _ in files)))
    images, labels, broken = [], [], 0
    for result, (_, label) in zip(results, files, strict=True):
        if isinstance(result, DataError):
            if not skip_broken:
                raise DataError(f"{result}, or give --skip-broken")
            broken += 1
            continue
        images.append(result)
        labels.append(label)
    if not images:
        raise DataError(f"{files[0][0].parent.parent}: not one of its pictures can be read; mend them")
    return Split(torch.stack(images), torch.tensor(labels)), broken
