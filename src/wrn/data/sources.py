"""Opens a data set by name, from disk or by download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wrn.data.cache import load_cached
from wrn.data.cifar import Found
from wrn.data.dataset import Dataset
from wrn.data.download import ProgressCallback
from wrn.data.folder import load_folder, load_test_folder
from wrn.data.layout import TEST_NAMES
from wrn.data.locate import OutOfReach, locate_cifar, locate_folder, places_of
from wrn.filesystem import is_dir


def open_dataset(
    name: str,
    *,
    data_dir: Path | None,
    search: Sequence[Path] = (),
    download: bool = True,
    skip_broken: bool = False,
    classes: Sequence[str] | None = None,
    on_progress: ProgressCallback | None = None,
    on_message: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """The data set `name` (`auto`, `cifar100`, `cifar10`, `folder` or `synthetic`).

    It is looked for in `data_dir`, or if that is None in each of `search`, and otherwise downloaded into `data_dir` or
    the first writable folder of `search`. `auto` is CIFAR-100, or the synthetic set if CIFAR-100 is neither on disk nor
    quick to download; a damaged copy is still an error.

    classes: those of a model to score. `folder` is then its test images alone, labelled by these names.
    on_progress: told how far a download has come. on_message: told, a line each, what else a user should know.

    Raises DataError, with the fix, if the data set is unavailable or damaged.
    """
    if name == "synthetic":
        return _synthetic("")
    places = places_of(data_dir, search)
    if name == "folder":
        if classes is None:
            directory = locate_folder(data_dir, places)
            return load_folder(directory, skip_broken=skip_broken, on_message=on_message)
        directory = locate_folder(data_dir, places, parts=TEST_NAMES)
        return load_test_folder(directory, classes, skip_broken=skip_broken, on_message=on_message)
    try:
        return _load(locate_cifar(name, places, download=download, on_progress=on_progress), on_message)
    except OutOfReach as error:
        if name == "auto":
            return _synthetic(error.why)
        raise


def _load(found: Found, on_message: Callable[[str], None]) -> Dataset:
    near = found.path if is_dir(found.path) else found.path.parent
    return load_cached(f"{found.form.folder} in {found.path.resolve()}", found.files, near, found.load, on_message)


def _synthetic(why: str) -> Dataset:
    """The synthetic set, with the reason if nobody asked for it."""
    from wrn.data.synthetic import make_synthetic

    dataset = make_synthetic()
    return replace(dataset, origin=f"{dataset.origin}; {why}") if why else dataset
