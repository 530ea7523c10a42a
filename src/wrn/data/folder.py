"""Your own images: `train/<class>/*.png` and `test/<class>/*.png`, resized to 32x32."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from wrn.data.cache import load_cached
from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.layout import Files, list_pictures, some
from wrn.data.pictures import read_pictures
from wrn.errors import DataError


def load_folder(directory: Path, *, skip_broken: bool = False) -> Dataset:
    """The images below `directory`; the classes are the sorted folder names in `train`.

    Raises DataError for a folder that cannot be read, a class without images or a test class missing from train, and
    for broken images, naming the first few; with `skip_broken` these are skipped and counted in the data set's
    `origin`.
    """
    train, test, classes = list_pictures(directory)

    def build() -> Dataset:
        parts = [(files, read_pictures([path for path, _ in files])) for files in (train, test)]
        broken = [
            [(path, result) for (path, _), result in zip(*part, strict=True) if isinstance(result, DataError)]
            for part in parts
        ]
        if any(broken) and not skip_broken:
            raise _refusal([*broken[0], *broken[1]])
        origin = str(directory)
        if any(broken):
            origin += (
                f", broken and skipped: {len(broken[0])} in the training split, {len(broken[1])} in the test split"
            )
        train_split, test_split = (_whole(*part) for part in parts)
        mean, std = channel_statistics(train_split.images)
        return Dataset("folder", origin, train_split, test_split, tuple(classes), (), (), mean, std)

    source = f"pictures in {directory.resolve()}" + (" but broken ones" if skip_broken else "")
    return load_cached(source, (path for path, _ in train + test), directory, build)


def _refusal(broken: list[tuple[Path, DataError]]) -> DataError:
    """What is wrong with the first broken image, and which others are broken."""
    others = [str(path) for path, _ in broken[1:]]
    more = f" (and {len(others)} more: {some(others)})" if others else ""
    return DataError(f"{broken[0][1]}, or give --skip-broken{more}")


def _whole(files: Files, results: list[Tensor | DataError]) -> Split:
    """The images that could be read. Raises DataError if there are none."""
    whole = [(result, label) for result, (_, label) in zip(results, files, strict=True) if isinstance(result, Tensor)]
    if not whole:
        raise DataError(f"{files[0][0]}: cannot be read as an image, nor can any other in its split; fix them")
    return Split(torch.stack([image for image, _ in whole]), torch.tensor([label for _, label in whole]))
