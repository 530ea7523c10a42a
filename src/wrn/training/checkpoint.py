"""Checkpoints: one file each, plain data, verified before use.

    step-00001234.safetensors          every tensor needed to resume; all other state as JSON in the header
    step-00001234.safetensors.sha256   its checksum, in the format of `sha256sum`

Both are written to a temporary name, flushed to disk and renamed, the checksum last: a file without a matching
checksum is incomplete (SageMaker, too, syncs this folder to S3 in no particular order) and is skipped.
Reading a checkpoint executes no code.
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
from safetensors import SafetensorError
from torch import Tensor

from wrn.errors import CheckpointError
from wrn.filesystem import exists, is_file
from wrn.strict_json import to_json
from wrn.tensors import flush, open_tensors, save_tensors

BACKGROUND_NICENESS = 19
"""Of the writer thread, so that it yields the CPU to training.

WRN-28-10, batch 16, two cores: a step during a write takes 1.1 times as long as usual (1.5 times at niceness 15), and
the write takes five steps instead of one.
"""
_NAME = re.compile(r"step-(\d{8,})\.safetensors")
ASIDE = "set-aside"
"""Prefix of the subfolders (-1, -2, ...) for checkpoints that a run did not resume from."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to resume a run. `state` is what JSON can hold; `tensors` is the rest.

    path: the file it was read from, if any.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    path: Path | None = None

    @property
    def step(self) -> int:
        return int(self.state["step"])


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: a crash at any moment leaves either a complete file of that name or no valid one.

    Raises CheckpointError when the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(temporary, tensors, {"state": to_json(checkpoint.state)})
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
    """Read a checkpoint and verify its checksum. Raises CheckpointError, with the reason, if the file is not valid."""
    try:
        expected = _checksum_of(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        raise CheckpointError(f"{path}: has no checksum file, so it was not completely written") from None
    try:
        if _sha256(path) != expected:
            raise CheckpointError(f"{path}: does not match its checksum, so it is damaged")
        with open_tensors(path) as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("no step number")
        return Checkpoint(tensors, state, path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a wrn checkpoint ({error})") from None


def step_of(path: Path) -> int:
    """The step in a checkpoint's file name."""
    return int(path.name.removeprefix("step-").partition(".")[0])


class CheckpointStore:
    """The checkpoints of one run in one folder: writes in the background, keeps the newest few.

    keep: how many to keep. on_note: called with a line about each damaged file that is skipped.
    """

    def __init__(self, directory: Path, keep: int, on_note: Callable[[str], None]) -> None:
        self.directory = directory
        self._keep = keep
        self.on_note = on_note
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.write_seconds: float | None = None
        """How long the last write took; None until the first has finished."""

    def paths(self) -> list[Path]:
        """Files named like checkpoints, valid or not, newest first. Leftover temporary files are not included."""
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
        """The newest valid checkpoint. Each newer, invalid one is reported and skipped."""
        for path in self.paths():
            try:
                return path, read_checkpoint(path)
            except CheckpointError as error:
                self.on_note(f"skipped: {error}")
        return None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writer is not None and self._writer.is_alive()

    def save(self, checkpoint: Checkpoint, *, wait: bool = False) -> None:
        """Write a checkpoint in the background, from a copy made now; with `wait`, return once it is written.

        Waits for an earlier write first, and raises CheckpointError if that failed. With `wait`, an earlier failure is
        ignored, and CheckpointError is raised if this write fails.
        """
        if wait and self._writer is not None:
            self._writer.join()
            self._failure = None
        self.wait()
        # Copy the state too: by the time the writer gets to it, another epoch may have been added to the history.
        state = json.loads(to_json(checkpoint.state))
        arguments = (_copies(checkpoint.tensors), state, not wait)
        self._writer = threading.Thread(target=self._write, args=arguments, name="checkpoint-writer")
        self._writer.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises CheckpointError if the last write failed."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def path_of(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}.safetensors"

    def set_aside(self, *, beyond: int, origin: Path | None) -> None:
        """Move checkpoints that do not belong to this run into a subfolder, where `newest` does not look.

        To be called by a run that resumes at step `beyond` from the checkpoint `origin`, or starts fresh (None).
        Checkpoints of later steps are damaged or come from an abandoned run: left in place, they would count as the
        newest. If `origin` is in another folder, none here belongs to the run. Incomplete files of a killed process
        are removed.

        Call it only while holding the folder: what another process is writing looks incomplete. Raises CheckpointError
        if checkpoints cannot be moved.
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
                # The checksum last: a kill between the two moves leaves a stray checksum, which is harmless. The other
                # order would leave a checkpoint that looks incomplete and would be removed.
                for name in (path, _checksum_of(path)):
                    if exists(name):
                        name.replace(aside / name.name)
        except OSError as error:
            raise CheckpointError(
                f"{aside}: cannot set checkpoints aside ({error}); give another --checkpoint-dir"
            ) from None
        names = ", ".join(path.name for path in foreign)
        self.on_note(f"set aside, as this run does not resume from them: {names} in {aside}")

    def _remove_unfinished(self, here: bool) -> None:
        """Remove what a process killed while writing, removing or setting aside checkpoints has left behind.

        `read_checkpoint` accepts none of it.

        here: whether the run resumes from a checkpoint in this folder, which makes incomplete ones worthless.
        Otherwise files without a checksum are kept, to be set aside: they may be all there is, or somebody may have
        copied them here without their checksums.
        """
        for folder in self.directory.glob(f"{ASIDE}-*"):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
        unfinished = list(self.directory.glob(".step-*.tmp"))
        if here:
            unfinished += [path for path in self.paths() if not exists(_checksum_of(path))]
        for path in unfinished:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.on_note(f"{path}: is incomplete and cannot be removed ({error.strerror})")

    def _write(self, fetch: Callable[[], dict[str, Tensor]], state: dict[str, Any], in_background: bool) -> None:
        began = time.monotonic()
        try:
            if in_background:
                _lower_priority()
            checkpoint = Checkpoint(fetch(), state)
            path = self.path_of(checkpoint.step)
            write_checkpoint(path, checkpoint)
            self._remove_old(written=path)
            self.write_seconds = time.monotonic() - began
        except BaseException as error:  # raised in the training thread by `wait`
            self._failure = error

    def _remove_old(self, *, written: Path) -> None:
        """Keep the one just written, whatever the steps of the others, and the newest complete ones besides."""
        others = [path for path in self.paths() if path != written and is_file(_checksum_of(path))]
        for path in others[self._keep - 1 :]:
            # The checksum first: without it, the rest no longer counts as a checkpoint.
            _checksum_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def free_aside(directory: Path) -> Path:
    """A folder in `directory` that does not exist yet, for what is set aside now.

    A new one each time, as runs of the same length end with checkpoints of the same name.
    """
    folders = (directory / f"{ASIDE}-{number}" for number in itertools.count(1))
    return next(folder for folder in folders if not exists(folder))


def aside_line(checkpoints: Path) -> str | None:
    """One line on the number and size of the checkpoints that were set aside; None if there are none."""
    files = list(checkpoints.glob(f"{ASIDE}-*/*"))
    number = sum(_NAME.fullmatch(path.name) is not None for path in files)
    if not number:
        return None
    size = sum(path.stat().st_size for path in files)
    return (
        f"set aside by this run or earlier ones: {number} checkpoint{'s' if number > 1 else ''}, {size / 1e6:,.0f} MB, "
        f"in {checkpoints}/{ASIDE}-*; no run resumes from these: delete them if you do not need them"
    )


def _lower_priority() -> None:
    """Let other threads run first.

    A step that has to wait for one of its threads takes much longer. Only Linux has per-thread priorities.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)


def _copies(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Copy the tensors now, contiguously and on their device; the returned function brings the copies to the host.

    On a GPU, copying takes well under a millisecond per 100 MB. The transfer uses its own stream: on training's, each
    tensor would wait for all the work queued by then. On two CPU cores, copying the 440 MB of WRN-28-10 takes some
    50 ms; when it was left to the writer's low-priority threads, the step running at the same time took twice as long.
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
    # In one call, which releases the GIL once: a loop over blocks would reacquire it each time, and a low-priority
    # thread that is descheduled while holding the GIL keeps training waiting.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()
