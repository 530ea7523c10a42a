"""How your own pictures lie in class folders: `train/<class>/*.png` and `test/<class>/*.png`. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from wrn.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff")
TEST_NAMES = ("test", "val", "valid", "validation")
"""Folders that may hold the test pictures, the first that exists."""
NAMED = 3
"""How many broken pictures or foreign classes a message names."""

Files = list[tuple[Path, int]]
"""Pictures with their labels."""


def list_pictures(directory: Path) -> tuple[Files, Files, list[str]]:
    """The train pictures, the test pictures and the classes, which are the sorted names of the folders in `train`.

    Raises DataError for a folder that cannot be read, has no pictures, or a test class that train lacks.
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
            f"{directory}: holds no folder train/; lay pictures out as train/<class>/*.png and test/<class>/*.png"
        )
    if test is None:
        raise DataError(f"{directory}: holds no folder test/; put some pictures of each class into test/<class>/")
    known, tested = _classes(train), _classes(test)
    if len(known) < 2:
        raise DataError(f"{train}: holds {len(known)} class folders, but a choice needs two; add train/<class>/*.png")
    if strangers := [name for name in tested if name not in known]:
        raise DataError(f"{test}: has classes that train lacks ({some(strangers)}); add them there or remove them")
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


def some(names: list[str]) -> str:
    """The first of them, and a sign that there are more."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
