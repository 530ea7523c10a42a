"""The door to all images: a data set by its name, from wherever it is to be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wrn.data.cache import load_cached
from wrn.data.cifar import Found
from wrn.data.dataset import Dataset
from wrn.data.download import ProgressCallback
from wrn.data.folder import load_folder
from wrn.data.locate import OutOfReach, locate_cifar, locate_folder, places_of


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
    places = places_of(data_dir, search)
    if name == "folder":
        return load_folder(locate_folder(data_dir, places), skip_broken=skip_broken)
    try:
        return _load(locate_cifar(name, places, download=download, on_progress=on_progress))
    except OutOfReach as error:
        if name == "auto":
            return _synthetic(error.why)
        raise


def _load(found: Found) -> Dataset:
    near = found.path if found.path.is_dir() else found.path.parent
    return load_cached(f"{found.form.folder} in {found.path.resolve()}", found.files, near, found.load)


def _synthetic(why: str) -> Dataset:
    """The synthetic set, and why it was taken where nobody asked for it."""
    from wrn.data.synthetic import make_synthetic

    dataset = make_synthetic()
    return replace(dataset, origin=f"{dataset.origin}; {why}") if why else dataset
