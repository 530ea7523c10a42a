"""A deployment run on this machine: the request that would go to SageMaker, with local input.

Everything is in one folder, which afterwards holds what `wrn fetch` would fetch (model/ and the records), the archives,
checkpoints/, the request and the log. Running in the same folder again resumes from its checkpoints.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from wrn.aws.jobs.request import CODE_CHANNEL, DATA_CHANNEL, WHEELS_CHANNEL
from wrn.aws.local.runner import GRACE, JobRun, Outcome
from wrn.aws.s3.code_archive import Bundle
from wrn.aws.s3.dataset_files import Parcel
from wrn.aws.s3.unpack import unpack
from wrn.errors import AwsError
from wrn.filesystem import exists, is_dir, is_file
from wrn.strict_json import to_json

REQUEST, LOG = "request.json", "log.txt"
MACHINES = "machines"
"""The folder with /opt/ml of each host."""

OURS = frozenset((REQUEST, LOG, MACHINES, "model", "checkpoints", "model.tar.gz", "output.tar.gz"))

Show = Callable[[str, str], None]
"""Called with (host, line)."""


@dataclass
class Rehearsal:
    """One job on this machine, through all its interruptions.

    request: the body of CreateTrainingJob. data: the files of its data channel; None: it has none.
    interruptions: seconds of training after which the machine is taken away, one entry per interruption.
    show: called with each line of output. tell: called with a sentence for each event.
    """

    request: Mapping[str, Any]
    folder: Path
    code: Bundle
    data: Parcel | None
    region: str
    show: Show
    tell: Callable[[str], None]
    interruptions: Sequence[float] = ()
    grace: float = GRACE
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of JobRun."""
    stopped: bool = field(default=False, init=False)
    _run: JobRun | None = field(default=None, init=False)
    _timer: threading.Timer | None = field(default=None, init=False)

    def run(self) -> Outcome:
        """Run the job to its end; `seconds` of the outcome covers all its runs. Call `claim` first."""
        used, waiting = 0.0, list(self.interruptions)
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            while True:
                self._run = run = self._prepared(log, used, waiting.pop(0) if waiting else None)
                if self.stopped:
                    run.stop()
                try:
                    run.prepare()
                    outcome = run.train()
                finally:
                    self._cancel()
                used = run.used
                if outcome.status == "Interrupted" and self.stopped:
                    outcome = replace(outcome, status="Stopped")
                if outcome.status != "Interrupted":
                    break
                self.tell("Interrupted: the machine is gone; another one starts")
            outcome = run.pack(outcome)
        return self._collect(replace(outcome, seconds=used), run)

    def stop(self) -> None:
        """Like StopTrainingJob: SIGTERM, then SIGKILL after `grace`. Called from a signal handler or another thread."""
        self.stopped = True
        if self._run is not None:
            self._run.stop()

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def has_checkpoints(self) -> bool:
        return is_dir(self.checkpoints) and any(self.checkpoints.iterdir())

    def claim(self) -> None:
        """Prepare the folder. Raises AwsError if it holds other things or cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(self.folder.iterdir()) and not is_file(self.folder / REQUEST):
                raise AwsError(f"local_dir: {self.folder} holds other things; give an empty folder, or a new one")
            (self.folder / REQUEST).write_text(to_json(self.request, indent=2) + "\n", encoding="utf-8")
            (self.folder / MACHINES / "algo-1/checkpoints").mkdir(parents=True, exist_ok=True)
            if not exists(self.checkpoints):
                self.checkpoints.symlink_to(Path(MACHINES, "algo-1/checkpoints"))
        except OSError as error:
            raise AwsError(
                f"local_dir: {self.folder} cannot be written ({error.strerror}); give another as --local-dir"
            ) from None

    def _prepared(self, log: TextIO, used: float, interrupt_after: float | None) -> JobRun:
        lock = threading.Lock()

        def heard(host: str, line: str) -> None:
            with lock:
                log.write(f"{line}\n" if len(run.hosts) == 1 else f"{host}: {line}\n")
                log.flush()
                self.show(host, line)

        def phase(name: str) -> None:
            self.tell(f"{name}{self._detail(name)}")
            if name == "Training" and interrupt_after is not None:
                self._timer = threading.Timer(interrupt_after, self._interrupt, (interrupt_after,))
                self._timer.daemon = True
                self._timer.start()

        run = JobRun(
            self.request,
            work=self.folder / MACHINES,
            fill=self._fill,
            on_line=heard,
            on_phase=phase,
            region=self.region,
            used=used,
            grace=self.grace,
            **self.settings,
        )
        # Each machine starts with all checkpoints, as it would get them from S3.
        for host in run.hosts[1:]:
            _link_all(self.checkpoints, run.folder(host) / "checkpoints")
        return run

    def _detail(self, phase: str) -> str:
        if phase == "Downloading":
            parts = [f"code ({len(self.code.content) / 1000:.0f} kB)"]
            if self.data is not None:
                parts.append(f"data ({self.data.size / 1e6:.1f} MB, from this machine)")
            return f": {', '.join(parts)}"
        if phase == "Training":
            return f": resuming from {self.checkpoints}" if self.has_checkpoints else ""
        return ": packing the model and the records"

    def _interrupt(self, seconds: float) -> None:
        assert self._run is not None
        self.tell(f"interrupting after {seconds:g} s: SIGTERM, and {self.grace:g} s to save, as on AWS")
        self._run.interrupt()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fill(self, uri: str, folder: Path) -> None:
        """Put the local files of a channel, identified by its folder name, into the folder."""
        if folder.name == CODE_CHANNEL:
            (folder / self.code.name).write_bytes(self.code.content)
        elif folder.name == DATA_CHANNEL:
            assert self.data is not None
            self.data.check()
            for name, path in self.data.files:
                bring(path, folder / name)
        else:
            assert folder.name == WHEELS_CHANNEL, uri  # these are for the Python of the image, not for this one

    def _collect(self, outcome: Outcome, run: JobRun) -> Outcome:
        """Put the results where `wrn fetch` puts them, and clear the machines' folders, except after a failure."""
        placed = {}
        for kind, archive in (("model", outcome.model), ("output", outcome.output)):
            target = self.folder / f"{kind}.tar.gz"
            if archive is None:
                target.unlink(missing_ok=True)
                continue
            placed[kind] = archive.replace(target)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".unpacking-") as scratch:
                fresh = Path(scratch, "fresh")
                fresh.mkdir()
                unpack(target, fresh)
                if kind == "model":
                    _swap(fresh, self.folder / "model", Path(scratch))
                else:
                    for entry in [entry for entry in fresh.iterdir() if entry.name not in OURS]:
                        _swap(entry, self.folder / entry.name, Path(scratch))
        if outcome.status != "Failed":
            for host in run.hosts:
                for name in ("code", "input", "model", "output"):
                    shutil.rmtree(run.folder(host) / name, ignore_errors=True)
                shutil.rmtree(run.work / f"{host}-home", ignore_errors=True)
        return replace(outcome, model=placed.get("model"), output=placed.get("output"))


def bring(source: Path, target: Path) -> None:
    """A hard link to the file if the disk allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise AwsError(f"{source} cannot be copied for the job ({error.strerror}); fix that") from None


def _link_all(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        other = target / path.relative_to(source)
        if is_file(path) and not exists(other):
            bring(path, other)


def _swap(fresh: Path, target: Path, scratch: Path) -> None:
    """Put something in its place; what was there is removed with the scratch folder."""
    if exists(target) or target.is_symlink():
        target.rename(scratch / f"old-{target.name}-{time.monotonic_ns()}")
    fresh.rename(target)
