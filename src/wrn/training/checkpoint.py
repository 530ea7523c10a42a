"""Checkpoints: one file each, plain data, checked before it is believed.

    step-00001234.safetensors          every tensor that decides the future, and in its header all other state as JSON
    step-00001234.safetensors.sha256   its checksum, as `sha256sum` writes it

Both are written to a temporary name, flushed to disk and renamed, the checksum last: a file without a matching
checksum is half-written (or half-copied: SageMaker syncs this folder to S3 in no order) and is passed over.
Reading one executes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import mmap
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wrn.errors import CheckpointError
from wrn.tensors import flush, save_tensors

BACKGROUND_NICENESS = 19
"""Of the thread that writes, so that it gets little where training wants all of the processor.

WRN-28-10, batch 16, two cores: the step beside it takes 1.1 times as long as usual, with 15 instead 1.5 times; the
write takes five steps instead of one.
"""
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
ASIDE = "set-aside"
"""-1, -2, ...: the folders within a checkpoint folder for those that a run did not go on from."""


@dataclass(frozen=True)
class Checkpoint:
    """All that decides how a run goes on. `state` is what JSON can hold; `tensors` is the rest.

    path: where it was read from, if it was.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    path: Path | None = None

    @property
    def step(self) -> int:
        return int(self.state["step"])


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash at any moment leaves either no valid file of that name or a whole one.

    Raises CheckpointError when the disk is full or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(temporary, tensors, {"state": json.dumps(checkpoint.state)})
        digest = _sha256(temporary)
        checksum = path.with_name(f".{path.name}.sha256.tmp")
        checksum.write_text(f"{digest}  {path.name}\n", encoding="ascii")
        for name in (temporary, checksum):
            flush(name)
        temporary.replace(path)
        checksum.replace(_checksum_of(path))
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        for name in (temporary, path.with_name(f".{path.name}.sha256.tmp")):
            name.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({error}); free space there or give another --checkpoint-dir. "
            "Earlier checkpoints are untouched"
        ) from None


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint whose checksum holds. Raises CheckpointError, with the reason, for any other file."""
    try:
        expected = _checksum_of(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: has no checksum beside it, so it was not written to the end") from None
    try:
        if _sha256(path) != expected:
            raise CheckpointError(f"{path}: does not match its checksum, so it is damaged")
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("it does not say of which step")
        return Checkpoint(tensors, state, path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint of this program ({error})") from None


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(path.name.removeprefix("step-").partition(".")[0])


class CheckpointStore:
    """The checkpoints of one run in one folder: writes in the background, keeps the newest few.

    keep: how many stay. on_note: told of each damaged file that is passed over.
    """

    def __init__(self, directory: Path, keep: int, on_note: Callable[[str], None]) -> None:
        self.directory = directory
        self._keep = keep
        self.on_note = on_note
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.write_seconds: float | None = None
        """How long the last write took; None before the first has ended."""

    def paths(self) -> list[Path]:
        """Files with the name of a checkpoint, newest first; valid or not. Temporary leftovers do not count."""
        try:
            found = [path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"{self.directory}: cannot be read ({error}); give another --checkpoint-dir"
            ) from None
        return sorted(found, key=step_of, reverse=True)

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest valid checkpoint. Each newer one that is not valid is named and passed over."""
        for path in self.paths():
            try:
                return path, read_checkpoint(path)
            except CheckpointError as error:
                self.on_note(f"passed over: {error}")
        return None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._writer is not None and self._writer.is_alive()

    def save(self, checkpoint: Checkpoint, *, wait: bool = False) -> None:
        """Write a checkpoint in the background, from a copy made now; `wait` for the end of it.

        An earlier write is waited for first. Raises CheckpointError when that one failed; with `wait` when this one
        did, whose success makes up for an earlier failure.
        """
        if wait and self._writer is not None:
            self._writer.join()
            self._failure = None
        self.wait()
        # The state, too: the writer may come to it late, and by then an epoch may have ended and be in the history.
        state = json.loads(json.dumps(checkpoint.state))
        arguments = (_copies(checkpoint.tensors), state, not wait)
        self._writer = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
        self._writer.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written. Raises CheckpointError when the last write failed."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def path_of(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}.safetensors"

    def set_aside(self, *, beyond: int, origin: Path | None) -> None:
        """Put checkpoints that are not this run's into a folder of their own, where they are not found again.

        To be called by a run that goes on at step `beyond` from the checkpoint `origin`, or begins (None). Those of
        later steps are damaged, or of a run that was given up: left in place they would count as the newest. Where
        the run comes from elsewhere, none is its own. What a killed process left unfinished is removed.

        Only while the folder is held: what another process is writing looks unfinished. Raises CheckpointError when
        checkpoints cannot be moved.
        """
        here = origin is not None and origin.parent.resolve() == self.directory.resolve()
        self._remove_unfinished(here)
        foreign = [path for path in self.paths() if not here or step_of(path) > beyond]
        if not foreign:
            return
        aside = free_aside(self.directory)
        try:
            aside.mkdir()
            for path in foreign:
                # Itself first: killed between the two, this leaves a checksum here that nobody looks at. The other way
                # round it would leave a file that looks unfinished, and is removed as such.
                for name in (path, _checksum_of(path)):
                    if name.exists():
                        name.replace(aside / name.name)
        except OSError as error:
            raise CheckpointError(
                f"{aside}: nothing can be set aside ({error}); give another --checkpoint-dir"
            ) from None
        names = ", ".join(path.name for path in foreign)
        self.on_note(f"set aside, as this run does not go on from them: {names} in {aside}")

    def _remove_unfinished(self, here: bool) -> None:
        """Remove what is left of a process that was killed while it wrote or removed a checkpoint, or set some aside.

        Nothing of it is a checkpoint to `read_checkpoint`.

        here: whether the run goes on from a checkpoint of this folder, which then is worth more than any that was not
        written to the end. Else files without a checksum are left to be set aside: they may be all that there is, or
        somebody may have copied them here and forgotten the checksums.
        """
        for folder in self.directory.glob(f"{ASIDE}-*"):
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
        unfinished = list(self.directory.glob(".step-*.tmp"))
        if here:
            unfinished += [path for path in self.paths() if not _checksum_of(path).exists()]
        for path in unfinished:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.on_note(f"{path}: was not written to the end and cannot be removed ({error.strerror})")

    def _write(self, fetch: Callable[[], dict[str, Tensor]], state: dict[str, Any], beside_training: bool) -> None:
        began = time.monotonic()
        try:
            if beside_training:
                _stand_back()
            checkpoint = Checkpoint(fetch(), state)
            path = self.path_of(checkpoint.step)
            write_checkpoint(path, checkpoint)
            self._remove_old(written=path)
            self.write_seconds = time.monotonic() - began
        except BaseException as error:  # handed to the training thread
            self._failure = error

    def _remove_old(self, *, written: Path) -> None:
        """Keep the one just written, whatever others say their step is, and beside it the newest that are whole."""
        others = [path for path in self.paths() if path != written and _checksum_of(path).is_file()]
        for path in others[self._keep - 1 :]:
            # The checksum first: from then on the rest is no checkpoint any more.
            _checksum_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def free_aside(directory: Path) -> Path:
    """A folder in `directory`, not there yet, for what is set aside now.

    Each time another one: runs of the same length end with checkpoints of the same name.
    """
    folders = (directory / f"{ASIDE}-{number}" for number in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def aside_line(checkpoints: Path) -> str | None:
    """What lies in folders of checkpoints that a run did not go on from, and how large it is; None for nothing."""
    files = list(checkpoints.glob(f"{ASIDE}-*/*"))
    number = sum(_NAME.fullmatch(path.name) is not None for path in files)
    if not number:
        return None
    size = sum(path.stat().st_size for path in files)
    return (
        f"set aside by this run or earlier ones: {number} checkpoint{'s' if number > 1 else ''}, {size / 1e6:,.0f} MB, "
        f"in {checkpoints}/{ASIDE}-*; no run goes on from there: remove what you do not want to keep"
    )


def _stand_back() -> None:
    """Let other threads have the processor first.

    A step that has to wait for one of its threads takes much longer. Linux alone has priorities of threads.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)


def _copies(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Copies as of now, row by row as files have them, on the same device; the answer brings them to the host.

    On a GPU the first takes well under a millisecond per 100 MB. The second has a stream of its own: on training's,
    each tensor would wait for all the work that is queued by then. On two CPU cores copying takes some 50 ms for the
    440 MB of WRN-28-10; left to the writer, whose threads of low priority would then copy beside training's, it made
    the step meanwhile twice as long.
    """
    copies = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    gpu = next((tensor.device for tensor in copies.values() if tensor.is_cuda), None)
    if gpu is None:
        return lambda: copies
    copied = torch.cuda.current_stream(gpu).record_event()

    def fetch() -> dict[str, Tensor]:
        own = torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]
        own.wait_event(copied)
        with torch.cuda.stream(own):
            return {name: copies.pop(name).cpu() for name in list(copies)}

    return fetch


def _checksum_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    # All in one call, which gives the interpreter's lock away once: a loop over blocks asks for it back each time, and
    # a thread of low priority that is taken off its processor while it holds the lock keeps training waiting.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()
