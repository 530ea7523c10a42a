"""Your own pictures: `train/<class>/*.png` and `test/<class>/*.png`, resized to 32x32."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from wrn.data.cache import load_cached
from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.layout import Files, list_pictures, some
from wrn.data.pictures import large_ones_unremarked, read_picture
from wrn.errors import DataError


def load_folder(directory: Path, *, skip_broken: bool = False) -> Dataset:
    """The pictures below `directory`, the classes being the sorted names of the folders in `train`.

    Raises DataError for a folder that cannot be read, has no pictures, or a test class that train lacks, and for
    broken pictures, the first of which are named; with `skip_broken` those are left out and counted in the data
    set's `origin`.
    """
    train, test, classes = list_pictures(directory)

    def build() -> Dataset:
        (train_split, broken_train), (test_split, broken_test) = (_read_all(f, skip_broken) for f in (train, test))
        broken = broken_train + broken_test
        origin = str(directory) + (f", {broken} broken pictures left out" if broken else "")
        mean, std = channel_statistics(train_split.images)
        return Dataset("folder", origin, train_split, test_split, tuple(classes), (), (), mean, std)

    source = f"pictures in {directory.resolve()}" + (" but broken ones" if skip_broken else "")
    return load_cached(source, (path for path, _ in train + test), directory, build)


def _read_all(files: Files, skip_broken: bool) -> tuple[Split, int]:
    """The split, and how many broken pictures were left out of it."""

    def read(path: Path) -> Tensor | DataError:
        try:
            return read_picture(path)
        except DataError as error:
            return error

    with large_ones_unremarked(), ThreadPoolExecutor() as pool:
        results = list(pool.map(read, (path for path, _ in files)))
    broken = [result for result in results if isinstance(result, DataError)]
    if broken and not skip_broken:
        more = f" (and {len(broken) - 1} more: {some([str(b).partition(':')[0] for b in broken[1:]])})"
        raise DataError(f"{broken[0]}, or give --skip-broken{more if len(broken) > 1 else ''}")
    if len(broken) == len(files):
        raise DataError(f"{files[0][0].parent.parent}: not one of its pictures can be read; fix them")
    whole = [(result, label) for result, (_, label) in zip(results, files, strict=True) if isinstance(result, Tensor)]
    return Split(torch.stack([image for image, _ in whole]), torch.tensor([label for _, label in whole])), len(broken)
