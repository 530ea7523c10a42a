"""The files of the data set for a job's channel, found where training would find them. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wrn.aws.jobs.request import data_name
from wrn.config.schema import Config
from wrn.errors import DataError
from wrn.filesystem import file_digest, is_dir, is_file
from wrn.text import printable


@dataclass(frozen=True)
class Parcel:
    """Files with their names in the channel. `key` is derived from their content, so objects under it never change."""

    files: tuple[tuple[str, Path], ...]
    key: str
    check: Callable[[], object] = lambda: None
    """Raises DataError for damaged files: found before they are sent, not on a paid instance."""
    remarks: tuple[str, ...] = ()
    """What is not sent and why, a line each."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for _, path in self.files)


def find_parcel(config: Config, search: Sequence[Path], *, download: bool = True) -> Parcel:
    """The files of the configured data set, fetched first if allowed and needed.

    The key of an archive is its md5, that of several files the SHA-256 of their names and contents. Raises DataError as
    training would; OutOfReach if `auto` must do without.
    """
    from wrn.data.layout import list_pictures
    from wrn.data.locate import locate_cifar, locate_folder, places_of

    places = places_of(config.data_dir, search)
    if config.dataset == "folder":
        folder = locate_folder(config.data_dir, places)
        listing = list_pictures(folder)
        files = [(printable(path.relative_to(folder).as_posix()), path) for path, _ in listing.train + listing.test]
        return replace(_parcel(files), remarks=listing.remarks)
    found = locate_cifar(config.dataset, places, download=config.download and download)
    if is_dir(found.path):
        if missing := [file for file in found.files if not is_file(file)]:
            raise DataError(f"{missing[0]}: is missing; fetch the data set again")
        files = [(f"{found.form.folder}/{name}", found.path / name) for name in found.form.md5]
        return replace(_parcel(files), check=found.members)
    key = _digest(found.path, "md5")
    # The official archive is known to be intact; a repacked one is checked.
    check = (lambda: None) if key == official_key(config) else found.members
    return Parcel(((found.path.name, found.path),), key, check)


def official_key(config: Config) -> str:
    """The key of the official archive: what a download would give. Empty for the user's own folder."""
    from wrn.data.download import ARCHIVES

    archive = ARCHIVES.get(data_name(config))
    return archive.md5 if archive else ""


def _parcel(files: list[tuple[str, Path]]) -> Parcel:
    lines = "".join(f"{_digest(path, 'sha256')} {name}\n" for name, path in sorted(files))
    return Parcel(tuple(files), hashlib.sha256(lines.encode()).hexdigest()[:32])


def _digest(path: Path, kind: str) -> str:
    """Raises DataError for a file that cannot be read."""
    try:
        return file_digest(path, kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); fix that") from None
