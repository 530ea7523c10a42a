"""Your own pictures: `train/<class>/*.png` and `test/<class>/*.png`, resized to 32x32."""

from __future__ import annotations

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
NAMED = 3
"""How many broken pictures or foreign classes a message names."""

Files = list[tuple[Path, int]]
"""Pictures with their labels."""


def load_folder(directory: Path, *, skip_broken: bool = False) -> Dataset:
    """The pictures below `directory`, the classes being the sorted names of the folders in `train`.

    Raises DataError for a folder that cannot be read, has no pictures, or a test class that train lacks, and for
    broken pictures, the first of which are named; with `skip_broken` those are left out and counted in the data
    set's `origin`.
    """
    try:
        train, test, classes = _list(directory)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); mend that") from None

    def build() -> Dataset:
        (train_split, broken_train), (test_split, broken_test) = (_read_all(f, skip_broken) for f in (train, test))
        broken = broken_train + broken_test
        origin = str(directory) + (f", {broken} broken pictures left out" if broken else "")
        mean, std = channel_statistics(train_split.images)
        return Dataset("folder", origin, train_split, test_split, tuple(classes), (), (), mean, std)

    source = f"pictures in {directory.resolve()}" + (" but broken ones" if skip_broken else "")
    return load_cached(source, (path for path, _ in train + test), directory, build)


def _list(directory: Path) -> tuple[Files, Files, list[str]]:
    """The train pictures, the test pictures and the classes. Raises DataError for what does not fit, and OSError."""
    train = directory / "train"
    test = next((directory / name for name in TEST_NAMES if (directory / name).is_dir()), None)
    if not train.is_dir():
        raise DataError(
            f"{directory}: holds no folder train/; lay pictures out as train/<class>/*.png and test/<class>/*.png"
        )
    if test is None:
        raise DataError(f"{directory}: holds no folder test/; put some pictures of each class into test/<class>/")
    known, tested = _classes(train), _classes(test)
    if len(known) < 2:
        raise DataError(f"{train}: holds {len(known)} class folders, but a choice needs two; add train/<class>/*.png")
    if strangers := [name for name in tested if name not in known]:
        raise DataError(f"{test}: has classes that train lacks ({_some(strangers)}); add them there or remove them")
    for name, pictures in known.items():
        if not pictures:
            raise DataError(f"{train / name}: holds no pictures ({' '.join(SUFFIXES)}); add some or remove the folder")
    if not any(tested.values()):
        raise DataError(f"{test}: holds no pictures; put some of each class into test/<class>/")
    label = {name: number for number, name in enumerate(known)}
    listed = ([(p, label[name]) for name, files in part.items() for p in files] for part in (known, tested))
    return next(listed), next(listed), list(known)


def _classes(part: Path) -> dict[str, list[Path]]:
    """The pictures of each class folder, however deep below it; hidden files and folders do not count."""
    return {
        folder.name: sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(name.startswith(".") for name in path.relative_to(folder).parts)
            and path.is_file()
        )
        for folder in sorted(part.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _read_all(files: Files, skip_broken: bool) -> tuple[Split, int]:
    """The split, and how many broken pictures were left out of it."""

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, (path for path, _ in files)))
    broken = [result for result in results if isinstance(result, DataError)]
    if broken and not skip_broken:
        more = f" (and {len(broken) - 1} more: {_some([str(b).partition(':')[0] for b in broken[1:]])})"
        raise DataError(f"{broken[0]}, or give --skip-broken{more if len(broken) > 1 else ''}")
    if len(broken) == len(files):
        raise DataError(f"{files[0][0].parent.parent}: not one of its pictures can be read; mend them")
    whole = [(result, label) for result, (_, label) in zip(results, files, strict=True) if isinstance(result, Tensor)]
    return Split(torch.stack([image for image, _ in whole]), torch.tensor([label for _, label in whole])), len(broken)


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
