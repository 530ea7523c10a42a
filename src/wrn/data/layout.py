"""The layout of an image folder: `train/<class>/*.png` and `test/<class>/*.png`. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from wrn.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")
TEST_NAMES = ("test", "val", "valid", "validation")
"""Folders that may hold the test images; the first that exists is used."""
NAMED = 3
"""How many broken images or unknown classes a message names."""

Files = list[tuple[Path, int]]
"""Image files with their labels."""


def list_pictures(directory: Path) -> tuple[Files, Files, list[str]]:
    """The training images, the test images and the classes, which are the sorted folder names in `train`.

    Raises DataError for a folder that cannot be read, a class without images, or a test class missing from train.
    """
    try:
        return _list(directory)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); fix that") from None


def _list(directory: Path) -> tuple[Files, Files, list[str]]:
    train = directory / "train"
    test = next((directory / name for name in TEST_NAMES if (directory / name).is_dir()), None)
    if directory.name in ("train", *TEST_NAMES) and (directory.parent / "train").is_dir():
        raise DataError(f"{directory}: is one split of the pictures; give the folder of both, {directory.parent}")
    if not train.is_dir():
        raise DataError(
            f"{directory}: has no folder train/; lay images out as train/<class>/*.png and test/<class>/*.png"
        )
    if test is None:
        raise DataError(f"{directory}: has no folder test/; put some images of each class into test/<class>/")
    known, tested = _classes(train), _classes(test)
    if len(known) < 2:
        raise DataError(f"{train}: has {len(known)} class folders; at least two are needed: add train/<class>/*.png")
    if unknown := [name for name in tested if name not in known]:
        raise DataError(f"{test}: has classes that train lacks ({some(unknown)}); add them there or remove them")
    for name, images in known.items():
        if not images:
            raise DataError(f"{train / name}: has no images ({' '.join(SUFFIXES)}); add some or remove the folder")
    if not any(tested.values()):
        raise DataError(f"{test}: has no images; put some of each class into test/<class>/")
    label = {name: number for number, name in enumerate(known)}
    listed = ([(p, label[name]) for name, files in part.items() for p in files] for part in (known, tested))
    return next(listed), next(listed), list(known)


def _classes(part: Path) -> dict[str, list[Path]]:
    """The images below each class folder, at any depth, skipping hidden files and folders."""
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


def some(names: list[str]) -> str:
    """The first few names, with an ellipsis if there are more."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
