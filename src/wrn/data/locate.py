"""Where the files of a data set lie, or are fetched to. Needs no torch: the launcher finds what training would find."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wrn.data.cifar import TITLES, Found, find_cifar
from wrn.data.download import ARCHIVES, ProgressCallback, Unreachable, fetch
from wrn.errors import DataError

ANSWER_SECONDS, FETCH_SECONDS = 5.0, 180.0
"""How long `auto` waits for a server's answer, and for the whole archive, before it takes the synthetic set."""


class OutOfReach(DataError):
    """Neither on this machine nor to be fetched; `why` says it to someone who asked for `auto`."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def places_of(data_dir: Path | None, search: Sequence[Path]) -> list[Path]:
    """Where to look: in the one folder that was named, or else in each of `search`."""
    return [data_dir] if data_dir is not None else list(search)


def locate_cifar(
    name: str,
    places: Sequence[Path],
    *,
    download: bool = True,
    on_progress: ProgressCallback | None = None,
) -> Found:
    """The files of `cifar100`, `cifar10` or `auto` (CIFAR-100, quickly) in the first of `places` that has any, else
    fetched into the first that can be written.

    Raises OutOfReach where they are not to be had, and DataError for what has to be fixed first.
    """
    wanted = "cifar100" if name == "auto" else name
    if wanted not in TITLES:  # the description of a model may name any
        raise DataError(f'dataset: "{name}" is not known; give --dataset cifar100, cifar10, folder or synthetic')
    for place in places:
        found = find_cifar(wanted, place)
        if found is not None:
            return found
    missing = f"{TITLES[wanted]} is not in {', '.join(map(str, places)) or 'any folder that was named'}"
    if not download:
        raise OutOfReach(
            f"{missing}; give its folder as --data-dir, or allow --download", f"{missing}, and downloads are off"
        )
    quick = {"timeout_s": ANSWER_SECONDS, "limit_s": FETCH_SECONDS} if name == "auto" else {}
    try:
        path = fetch(ARCHIVES[wanted], _first_writable(places), on_progress=on_progress, **quick)
    except Unreachable as error:
        why = f"{missing} and could not be fetched; for the reasons, ask for --dataset cifar100"
        raise OutOfReach(f"{missing}, and {error}", why) from None
    except DataError as error:
        raise DataError(f"{missing}, and {error}") from None
    found = find_cifar(wanted, path)
    assert found is not None
    return found


def locate_folder(data_dir: Path | None, places: Sequence[Path]) -> Path:
    """The folder with one's own pictures. Raises DataError where there is none."""
    for place in places:
        if place.is_dir() and (data_dir is not None or (place / "train").is_dir()):
            return place
    if data_dir is not None:
        what = "is a file" if data_dir.exists() else "there is no such folder"
        raise DataError(f"{data_dir}: {what}; give the folder that holds train/<class>/ as --data-dir")
    looked = ", ".join(map(str, places)) or "nowhere"
    raise DataError(f"dataset folder: there is no folder with train/<class>/ in {looked}; give it as --data-dir")


def _first_writable(places: Sequence[Path]) -> Path:
    """Where a download goes. Raises DataError when there is none that can be written."""
    if not places:
        raise DataError("no folder was named to fetch it into; give --data-dir")
    for place in places:
        existing = next((p for p in (place, *place.absolute().parents) if p.exists()), None)
        if existing is not None and existing.is_dir() and os.access(existing, os.W_OK):
            return place
    raise DataError(f"none of {', '.join(map(str, places))} can be written; give a --data-dir that can")
