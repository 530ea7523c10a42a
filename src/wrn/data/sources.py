"""The door to all images: a data set by its name, from wherever it is to be had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wrn.data.cache import load_cached
from wrn.data.cifar import TITLES, Found, find_cifar
from wrn.data.dataset import Dataset
from wrn.data.download import ARCHIVES, ProgressCallback, Unreachable, fetch
from wrn.data.folder import load_folder
from wrn.errors import DataError

ANSWER_SECONDS, FETCH_SECONDS = 5.0, 180.0
"""How long `auto` waits for a server's answer, and for the whole archive, before it takes the synthetic set."""


def open_dataset(
    name: str,
    *,
    data_dir: Path | None,
    search: Sequence[Path] = (),
    download: bool = True,
    skip_broken: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Dataset:
    """The data set `name` (`auto`, `cifar100`, `cifar10`, `folder` or `synthetic`).

    It is looked for in `data_dir`, or where that is None in each of `search`; then it is fetched into `data_dir` or
    the first of `search` that can be written. `auto` is CIFAR-100 or, where that is neither there nor quickly
    fetched, the synthetic set; one that is there but damaged is an error all the same.

    Raises DataError, with the fix, when it is not to be had or is damaged.
    """
    if name == "synthetic":
        return _synthetic("")
    places = [data_dir] if data_dir is not None else list(search)
    if name == "folder":
        return _open_folder(data_dir, places, skip_broken)
    wanted = "cifar100" if name == "auto" else name
    for place in places:
        found = find_cifar(wanted, place)
        if found is not None:
            return _load(found)
    missing = f"{TITLES[wanted]} is not in {', '.join(map(str, places)) or 'any folder that was named'}"
    if not download:
        if name == "auto":
            return _synthetic(f"{missing}, and downloads are off")
        raise DataError(f"{missing}; give its folder as --data-dir, or allow --download")
    quick = {"timeout_s": ANSWER_SECONDS, "limit_s": FETCH_SECONDS} if name == "auto" else {}
    try:
        path = fetch(ARCHIVES[wanted], _first_writable(places), on_progress=on_progress, **quick)
    except Unreachable as error:
        if name == "auto":
            return _synthetic(f"{missing} and could not be fetched; for the reasons, ask for --dataset cifar100")
        raise DataError(f"{missing}, and {error}") from None
    except DataError as error:
        raise DataError(f"{missing}, and {error}") from None
    found = find_cifar(wanted, path)
    assert found is not None
    return _load(found)


def _load(found: Found) -> Dataset:
    near = found.path if found.path.is_dir() else found.path.parent
    return load_cached(f"{found.form.folder} in {found.path.resolve()}", found.files, near, found.load)


def _synthetic(why: str) -> Dataset:
    """The synthetic set, and why it was taken where nobody asked for it."""
    from wrn.data.synthetic import make_synthetic

    dataset = make_synthetic()
    return replace(dataset, origin=f"{dataset.origin}; {why}") if why else dataset


def _open_folder(data_dir: Path | None, places: Sequence[Path], skip_broken: bool) -> Dataset:
    for place in places:
        if place.is_dir() and (data_dir is not None or (place / "train").is_dir()):
            return load_folder(place, skip_broken=skip_broken)
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
