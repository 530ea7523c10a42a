"""The layout of an image folder: `train/<class>/*.png` and `test/<class>/*.png`. Needs no torch."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from wrn.errors import DataError
from wrn.filesystem import is_dir
from wrn.text import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEST_NAMES = ("test", "val", "valid", "validation")
"""Folders that may hold the test images; the first that exists is used."""
NAMED = 3
"""How many broken images or unknown classes a message names."""

Files = list[tuple[Path, int]]
"""Image files with their labels."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    classes: their names by label, in Unicode's composed form (NFC).
    remarks: what is left out and why, a line each, for people.
    """

    train: Files
    test: Files
    classes: tuple[str, ...]
    remarks: tuple[str, ...]


def list_pictures(directory: Path) -> Listing:
    """The training and the test images; the classes are the sorted folder names in `train`.

    Raises DataError for what cannot be read, a class without images, or a test class missing from train.
    """
    try:
        _refuse_one_split(directory)
        train, walk = directory / "train", _Walk()
        if not is_dir(train):
            raise DataError(
                f"{directory}: has no folder train/; lay images out as train/<class>/*.png and test/<class>/*.png"
            )
        test, remarks = _test_folder(directory)
        known, tested = walk.classes(train), walk.classes(test)
    except OSError as error:
        raise _unreadable(error) from None
    if len(known) < 2:
        raise DataError(f"{train}: has {len(known)} class folders; at least two are needed: add train/<class>/*.png")
    if unknown := [name for name in tested if name not in known]:
        raise DataError(f"{test}: has classes that train lacks ({some(unknown)}); add them there or remove them")
    remarks += walk.remarks()
    if empty := [name for name, images in known.items() if not images]:
        raise DataError(f"{train / empty[0]}: has no images{walk.why_none()}; add some or remove the folder")
    return Listing(_labelled(known, known), _test_images(test, tested, known, walk), tuple(known), remarks)


def list_test_pictures(directory: Path, classes: Sequence[str]) -> Listing:
    """The test images alone, labelled by the class names of a model. Needs no folder `train`.

    Raises DataError for what cannot be read, and for a class that the model does not know.
    """
    try:
        _refuse_one_split(directory)
        test, remarks = _test_folder(directory)
        walk, known = _Walk(), [composed(name) for name in classes]
        tested = walk.classes(test)
    except OSError as error:
        raise _unreadable(error) from None
    if unknown := [name for name in tested if name not in known]:
        raise DataError(
            f"{test}: has classes that the model does not know ({some(unknown)}; it knows {some(known)}); give the "
            "data it was trained on as --data-dir"
        )
    remarks += walk.remarks()
    files = _test_images(test, tested, known, walk)
    if without := [name for name in known if not tested.get(name)]:
        remarks += (f"{test} has no images of {some(without)}",)
    return Listing([], files, tuple(known), remarks)


def composed(name: str) -> str:
    """A class name in the form in which names are compared: some systems write é as one character, others as two.

    A folder's name that is not UTF-8 becomes text that every file can hold.
    """
    return unicodedata.normalize("NFC", printable(name))


def some(names: list[str]) -> str:
    """The first few names, with an ellipsis if there are more."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _refuse_one_split(directory: Path) -> None:
    above, names = directory.parent, ("train", *TEST_NAMES)
    inside = any(is_dir(directory / name) for name in names)
    if directory.name in names and (is_dir(above / "train") or not inside):
        raise DataError(f"{directory}: is one split of the pictures; give the folder above it, {above}")


def _test_folder(directory: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder with the test images, and a remark if others could be meant. Raises DataError if there is none."""
    present = [name for name in TEST_NAMES if is_dir(directory / name)]
    if not present:
        raise DataError(f"{directory}: has no folder test/; put some images of each class into test/<class>/")
    chosen, *others = present
    if not others:
        return directory / chosen, ()
    unused = f"{' and '.join(f'{name}/' for name in others)} {'is' if len(others) == 1 else 'are'} not used"
    return directory / chosen, (f"the test images are those in {chosen}/; {unused}",)


def _test_images(test: Path, tested: Mapping[str, list[Path]], classes: Iterable[str], walk: _Walk) -> Files:
    """Raises DataError if there are none."""
    files = _labelled(tested, classes)
    if not files:
        raise DataError(f"{test}: has no images{walk.why_none()}; put some of each class into test/<class>/")
    return files


def _labelled(images: Mapping[str, list[Path]], classes: Iterable[str]) -> Files:
    label = {name: number for number, name in enumerate(classes)}
    return [(path, label[name]) for name, files in images.items() for path in files]


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename}: cannot be read ({error.strerror}); fix that or give another --data-dir")


class _Walk:
    """Finds the images below class folders, and counts what it leaves out."""

    def __init__(self) -> None:
        self._ignored: Counter[str] = Counter()
        self._suffixes: Counter[str] = Counter()

    def classes(self, split: Path) -> dict[str, list[Path]]:
        """The images of each class, at any depth; folders whose names differ in their Unicode form alone are one class.

        Raises DataError for a link to nothing, and OSError for what cannot be read.
        """
        found: dict[str, list[Path]] = {}
        for entry in self._entries(split):
            if entry.is_dir():
                found.setdefault(composed(entry.name), []).extend(self._images(entry.path, set()))
            else:
                self._ignored["beside the class folders"] += 1
        return {name: sorted(found[name]) for name in sorted(found)}

    def remarks(self) -> tuple[str, ...]:
        """What was left out, as in: ignored: 3 .heic, 1 hidden (read are .png .jpg)."""
        ignored = self._left_out()
        return (f"ignored: {ignored} (read are {' '.join(SUFFIXES)})",) if ignored else ()

    def why_none(self) -> str:
        """What may explain that there are no images, in brackets."""
        ignored = self._left_out()
        return f" ({' '.join(SUFFIXES)}{f'; ignored: {ignored}' if ignored else ''})"

    def _left_out(self) -> str:
        kinds = self._suffixes.most_common()
        parts = [f"{number:,} {suffix}" for suffix, number in kinds[:NAMED]]
        if others := sum(number for _, number in kinds[NAMED:]):
            parts.append(f"{others:,} of other kinds")
        return ", ".join([*parts, *(f"{number:,} {reason}" for reason, number in self._ignored.items())])

    def _images(self, folder: str, visited: set[str]) -> Iterator[Path]:
        """Follows links, but reads no folder twice: neither for ever in a circle, nor the same images again."""
        real = os.path.realpath(folder)
        if real in visited:
            self._ignored["links to a folder that was read already"] += 1
            return
        visited.add(real)
        for entry in self._entries(folder):
            suffix = PurePath(entry.name).suffix.lower()
            if entry.is_dir():
                yield from self._images(entry.path, visited)
            elif not entry.is_file():
                self._ignored["not a file"] += 1
            elif suffix in SUFFIXES:
                yield Path(entry.path)
            else:
                self._suffixes[suffix or "without an extension"] += 1

    def _entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """What a folder holds but for hidden things, by name. Raises DataError for a link to nothing."""
        with os.scandir(folder) as entries:
            everything = sorted(entries, key=lambda entry: entry.name)
        shown = [entry for entry in everything if not entry.name.startswith(".")]
        if hidden := len(everything) - len(shown):
            self._ignored["hidden"] += hidden
        for entry in shown:
            if entry.is_symlink():
                _check_link(entry)
        return shown


def _check_link(entry: os.DirEntry[str]) -> None:
    """Raises DataError for a link to nothing, and OSError for one to what cannot be read."""
    try:
        entry.stat()
    except FileNotFoundError:
        target = Path(entry.path).readlink()
        raise DataError(
            f"{entry.path}: is a link to {target}, which is not there; restore that or remove the link"
        ) from None
