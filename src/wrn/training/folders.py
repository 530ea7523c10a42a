"""The folders of a run: created before it begins, locked while it runs, and removed if it never began."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from wrn.config import Config, RunPaths, run_paths
from wrn.config.paths import sagemaker_base
from wrn.errors import ConfigError
from wrn.filesystem import exists, is_dir, is_file
from wrn.training.checkpoint import free_aside

RESULTS = ("history.jsonl", "metrics.json", "model", "model-last")
"""Results in a run's folder that a later run could mistake for its own."""
PATIENCE_S = 15.0
"""How long to wait for another run to release a folder: a run asked to stop saves first, and the workers of a killed
one exit a few seconds later."""


def has_own_folder(config: Config) -> bool:
    """Whether each command gets a new folder under runs/."""
    unset = config.output_dir is None or "output_dir" not in config.given
    return unset and sagemaker_base(os.environ) is None


def folder_of_torchrun() -> Path | None:
    """The same folder for this start and all restarts by the same torchrun; None if its start time is not known."""
    torchrun = os.getppid()
    try:
        started = Path(f"/proc/{torchrun}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):  # not Linux
        return None
    return Path("runs", f"torchrun-{torchrun}-{started}")


def writable_paths(config: Config, recipe: str, new: list[Path]) -> RunPaths:
    """Create the folders of the run. Raises ConfigError if one cannot be written.

    new: receives the folders that did not exist before, parents first.
    """
    paths = run_paths(config, recipe)
    new += missing(paths)
    if config.output_dir is None and has_own_folder(config):
        while taken(paths.run):
            paths = run_paths(config, recipe)
            new += missing(paths)
    make_writable(paths)
    return paths


def missing(paths: RunPaths) -> list[Path]:
    """The folders of the run, and their parents, that do not exist; parents first."""
    wanted = {folder for path in (paths.run, paths.model, paths.checkpoints) for folder in (path, *path.parents)}
    return sorted(folder for folder in wanted if not exists(folder))


def taken(folder: Path) -> bool:
    """Whether another run has just made this folder; else make it. If that fails, `make_writable` says why."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return True
    except OSError:
        pass
    return False


@contextmanager
def held(folders: Sequence[Path], note: Callable[[str], None]) -> Iterator[None]:
    """Keep other runs out of these folders within the block; the system releases them when this process ends.

    note: receives a line if there is something to wait for.
    Raises ConfigError if another run holds one of them.
    """
    with ExitStack() as stack:
        for folder in dict.fromkeys(folders):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            with suppress(OSError):  # a file system without locks
                _lock(descriptor, folder, note)
        yield


def _lock(descriptor: int, folder: Path, note: Callable[[str], None]) -> None:
    deadline, waiting = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{folder}: another run is writing there; wait until it ends, or give another --output-dir"
                ) from None
            if not waiting:
                note(f"{folder}: another run is writing there; waiting up to {PATIENCE_S:.0f} s for it to end")
                waiting = True
            time.sleep(0.2)


def make_writable(paths: RunPaths) -> None:
    """Create the folders of the run now rather than fail after hours of training. Raises ConfigError."""
    for flag, path in (("output", paths.run), ("model", paths.model), ("checkpoint", paths.checkpoints)):
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            reason = "it is a file" if isinstance(error, FileExistsError) and is_file(path) else error.strerror
            raise ConfigError(f"{flag}_dir: {path} cannot be written ({reason}); give another --{flag}-dir") from None


def remove_empty(new: Sequence[Path]) -> None:
    """Remove the empty folders that were created for a run that never began."""
    for folder in reversed(new):
        with suppress(OSError):
            folder.rmdir()


def set_results_aside(run: Path) -> str | None:
    """Move the results and configuration of an earlier run into a folder of their own; returns a note if there are any.

    For a run that starts over in a used folder: its history would otherwise replace the earlier one, and the earlier
    model would look like its own. Raises ConfigError if they cannot be moved.
    """
    found = [run / name for name in RESULTS if _has_content(run / name)]
    if not found:
        return None
    aside = free_aside(run)
    try:
        aside.mkdir()
        for path in (*found, run / "config.yaml"):
            if exists(path):
                path.replace(aside / path.name)
    except OSError as error:
        raise ConfigError(
            f"{run}: the results of an earlier run cannot be set aside ({error}); give another --output-dir"
        ) from None
    return f"set aside, as this run starts over: {', '.join(path.name for path in found)} in {aside}"


def _has_content(path: Path) -> bool:
    """False for the empty model folder that this run has just created."""
    return any(path.iterdir()) if is_dir(path) else is_file(path) and path.stat().st_size > 0
