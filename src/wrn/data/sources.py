"""The door to all images: a data set by its name, from wherever it is to be had."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wrn.data.cache import load_cached
from wrn.data.cifar import TITLES, find_cifar
from wrn.data.dataset import Dataset
from wrn.data.download import ARCHIVES, ProgressCallback, fetch
from wrn.data.folder import load_folder
from wrn.errors import DataError

QUICK_SECONDS = 5.0
"""How long `auto` waits for a server to answer before it takes the synthetic set."""


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
        from wrn.data.synthetic import make_synthetic

        return make_synthetic()
    places = [data_dir] if data_dir is not None else list(search)
    if name == "folder":
        return _open_folder(data_dir, places, skip_broken)
    if data_dir is not None and not data_dir.exists() and not download:
        raise DataError(f"data_dir: {data_dir} does not exist; give the folder that holds {TITLES['cifar100']}")
    wanted = "cifar100" if name == "auto" else name
    for place in places:
        found = find_cifar(wanted, place)
        if found is not None:
            near = found.path if found.path.is_dir() else found.path.parent
            return load_cached(found.identity, near, found.load)
    looked = ", ".join(map(str, places)) or "nowhere"
    if not download:
        if name == "auto":
            return open_dataset("synthetic", data_dir=None)
        raise DataError(f"{TITLES[wanted]} is not in {looked}; give its folder as --data-dir, or allow --download")
    try:
        timeout = QUICK_SECONDS if name == "auto" else 30.0
        path = fetch(ARCHIVES[wanted], _first_writable(places), timeout_s=timeout, on_progress=on_progress)
    except DataError as error:
        if name == "auto":
            return open_dataset("synthetic", data_dir=None)
        raise DataError(f"{TITLES[wanted]} is not in {looked}, and {error}") from None
    found = find_cifar(wanted, path.parent)
    assert found is not None
    return load_cached(found.identity, path.parent, found.load)


def _open_folder(data_dir: Path | None, places: Sequence[Path], skip_broken: bool) -> Dataset:
    for place in places:
        if place.is_dir() and (data_dir is not None or (place / "train").is_dir()):
            return load_folder(place, skip_broken=skip_broken)
    looked = ", ".join(map(str, places)) or "nowhere"
    raise DataError(f"dataset folder: there is no folder with train/<class>/ in {looked}; give it as --data-dir")


def _first_writable(places: Sequence[Path]) -> Path:
    """Where a download goes. Raises DataError when nothing can be written."""
    for place in places:
        existing = next((p for p in (place, *place.absolute().parents) if p.exists()), None)
        if existing is not None and existing.is_dir() and os.access(existing, os.W_OK):
            return place
    raise DataError(f"none of {', '.join(map(str, places))} can be written; give a --data-dir that can")
