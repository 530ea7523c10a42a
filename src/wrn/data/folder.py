"""Your own images: `train/<class>/*.png` and `test/<class>/*.png`, resized to 32x32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wrn.data.cache import Cache, cache_line
from wrn.data.dataset import Dataset, Split, channel_statistics
from wrn.data.layout import Files, Listing, list_pictures, list_test_pictures, some
from wrn.data.pictures import SIDE, UnreadableFile, read_pictures
from wrn.errors import DataError

OnMessage = Callable[[str], None]
Problem = tuple[Path, str]
"""A file, and what is wrong with it."""


def load_folder(directory: Path, *, skip_broken: bool = False, on_message: OnMessage = lambda line: None) -> Dataset:
    """The images below `directory`; the classes are the sorted folder names in `train`.

    on_message: told what is left out, how far decoding has come, and where the cache is.

    Raises DataError for a folder that cannot be read, a class without images or a test class missing from train, and
    for images that cannot be read, naming the first few; with `skip_broken` these are skipped and counted in the data
    set's `origin`.
    """
    return _load(directory, list_pictures(directory), skip_broken, on_message)


def load_test_folder(
    directory: Path,
    classes: Sequence[str],
    *,
    skip_broken: bool = False,
    on_message: OnMessage = lambda line: None,
) -> Dataset:
    """The test images alone, labelled by the class names of a model; `train` may be absent, and stays unread.

    The data set's train split is empty, and its statistics are those of the test images. The rest is as in
    `load_folder`.
    """
    return _load(directory, list_test_pictures(directory, classes), skip_broken, on_message)


@dataclass(frozen=True)
class _Decoded:
    """The images of a split that could be read, and what is wrong with the others.

    broken: no images, or damaged ones. unopened: files that could not be opened; the next time they may well be.
    cache: the folder with the cache, if any.
    """

    split: Split
    broken: list[Problem]
    unopened: list[Problem]
    cache: Path | None


def _load(directory: Path, listing: Listing, skip_broken: bool, on_message: OnMessage) -> Dataset:
    for remark in listing.remarks:
        on_message(f"data: {remark}")
    train = _decode("training", listing.train, directory, on_message)
    test = _decode("test", listing.test, directory, on_message)
    unopened = [*train.unopened, *test.unopened]
    if not unopened:
        on_message(cache_line(test.cache))
    if (problems := [*unopened, *train.broken, *test.broken]) and not skip_broken:
        raise _refusal(problems)
    for part, files in ((train, listing.train), (test, listing.test)):
        if files and not len(part.split):
            raise DataError(f"{files[0][0]}: cannot be read as an image, nor can any other in its split; fix them")
    origin = str(directory)
    if train.broken or test.broken:
        origin += (
            f", broken and skipped: {len(train.broken)} in the training split, {len(test.broken)} in the test split"
        )
    if unopened:
        origin += f", not opened and skipped this time: {len(unopened)}, such as {unopened[0][0]}"
    mean, std = channel_statistics((train.split if listing.train else test.split).images)
    return Dataset("folder", origin, train.split, test.split, listing.classes, (), (), mean, std)


def _decode(name: str, files: Files, directory: Path, on_message: OnMessage) -> _Decoded:
    """The images of one split in the order of `files`, from their cache if the files are as they were then.

    The cache knows which files are broken. It is not written if any could not be opened: that may pass.
    """
    paths = [path for path, _ in files]
    cache = Cache(f"{name} pictures in {directory.resolve()}", paths, directory)
    no_images = torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8)
    broken: dict[int, str] = {}
    unopened: dict[int, str] = {}
    if not files:
        images = no_images
    elif (found := cache.read()) is not None:
        tensors, facts = found
        images, broken = tensors["images"], {int(place): reason for place, reason in facts["broken"].items()}
    else:
        results = read_pictures(paths, on_message)
        for place, (path, result) in enumerate(zip(paths, results, strict=True)):
            if isinstance(result, DataError):
                reasons = unopened if isinstance(result, UnreadableFile) else broken
                reasons[place] = str(result).removeprefix(f"{path}: ")
        whole = [result for result in results if isinstance(result, Tensor)]
        images = torch.stack(whole) if whole else no_images
        if not unopened:
            cache.write({"images": images}, {"broken": broken})
    labels = [label for place, (_, label) in enumerate(files) if place not in broken and place not in unopened]
    return _Decoded(
        Split(images, torch.tensor(labels, dtype=torch.int64)),
        [(paths[place], reason) for place, reason in broken.items()],
        [(paths[place], reason) for place, reason in unopened.items()],
        cache.folder,
    )


def _refusal(problems: list[Problem]) -> DataError:
    """What is wrong with the first file, and which others there are."""
    path, reason = problems[0]
    others = [str(path) for path, _ in problems[1:]]
    more = f" (and {len(others)} more: {some(others)})" if others else ""
    return DataError(f"{path}: {reason}, or give --skip-broken{more}")
