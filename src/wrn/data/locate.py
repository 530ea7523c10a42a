"""Finds the files of a data set, or downloads them. Needs no torch: the launcher finds what training would find."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wrn.data.cifar import TITLES, Found, find_cifar
from wrn.data.download import ARCHIVES, ProgressCallback, Unreachable, fetch
from wrn.errors import DataError
from wrn.filesystem import exists, is_dir

ANSWER_SECONDS, FETCH_SECONDS = 5.0, 180.0
"""How long `auto` waits for a server's answer, and for the whole archive, before it uses the synthetic set."""


class OutOfReach(DataError):
    """Neither on this machine nor downloadable; `why` is the reason shown for `auto`."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def places_of(data_dir: Path | None, search: Sequence[Path]) -> list[Path]:
    """Where to look: in the given folder, or else in each of `search`."""
    return [data_dir] if data_dir is not None else list(search)


def locate_cifar(
    name: str,
    places: Sequence[Path],
    *,
    download: bool = True,
    on_progress: ProgressCallback | None = None,
) -> Found:
    """The files of `cifar100`, `cifar10` or `auto` (CIFAR-100, quickly), from the first of `places` that has any; else
    downloaded into the first writable one.

    Raises OutOfReach if they are not available, and DataError for what has to be fixed first.
    """
    wanted = "cifar100" if name == "auto" else name
    if wanted not in TITLES:  # a model's description may name anything
        raise DataError(f'dataset: "{name}" is not known; give --dataset cifar100, cifar10, folder or synthetic')
    for place in places:
        found = find_cifar(wanted, place)
        if found is not None:
            return found
    missing = f"{TITLES[wanted]} is not in {', '.join(map(str, places)) or 'any given folder'}"
    if not download:
        raise OutOfReach(
            f"{missing}; give its folder as --data-dir, or allow --download", f"{missing}, and downloads are off"
        )
    quick = {"timeout_s": ANSWER_SECONDS, "limit_s": FETCH_SECONDS} if name == "auto" else {}
    try:
        path = fetch(ARCHIVES[wanted], _first_writable(places), on_progress=on_progress, **quick)
    except Unreachable as error:
        why = f"{missing} and could not be downloaded; --dataset cifar100 shows why"
        raise OutOfReach(f"{missing}, and {error}", why) from None
    except DataError as error:
        raise DataError(f"{missing}, and {error}") from None
    found = find_cifar(wanted, path)
    assert found is not None
    return found


def locate_folder(data_dir: Path | None, places: Sequence[Path], parts: Sequence[str] = ("train",)) -> Path:
    """The folder with the user's images: a place that is not given must hold one of `parts`. Raises DataError if there
    is none."""
    for place in places:
        try:
            if is_dir(place) and (data_dir is not None or any(is_dir(place / part) for part in parts)):
                return place
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror}); give another folder as --data-dir") from None
    layout = f"{parts[0]}/<class>/"
    if data_dir is not None:
        what = "is a file" if exists(data_dir) else "there is no such folder"
        raise DataError(f"{data_dir}: {what}; give the folder that holds {layout} as --data-dir")
    looked = ", ".join(map(str, places)) or "nowhere"
    raise DataError(f"dataset folder: there is no folder with {layout} in {looked}; give it as --data-dir")


def _first_writable(places: Sequence[Path]) -> Path:
    """Where a download goes. Raises DataError if no place is writable."""
    if not places:
        raise DataError("there is no folder to download it to; give --data-dir")
    for place in places:
        existing = next((p for p in (place, *place.absolute().parents) if exists(p)), None)
        if existing is not None and is_dir(existing) and os.access(existing, os.W_OK):
            return place
    raise DataError(f"cannot write to {', '.join(map(str, places))}; give a writable --data-dir")
