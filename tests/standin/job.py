"""One training job: its life from Starting to its end, with real processes."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from standin.faults import Faults
from standin.platform import CheckpointSync, MetricFinder, Platform, now
from standin.wire import AwsFault
from wrn.aws.local.runner import JobRun, Outcome

FINAL = ("Completed", "Failed", "Stopped")

SENTENCES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Training job interrupted",
    "Restarting": "Restarting the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}

NO_SPOT = "Insufficient capacity error from EC2 while launching instances, retrying!"

NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)

SPOT_BILL = 0.3
"""Of the training time, with spot instances."""

PUMP = 0.15
"""Seconds between two looks at output and checkpoints."""


class TrainingJob:
    """settings: what JobRun takes beside the request: environment, grace, isolation, program."""

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        arn: str,
        region: str,
        platform: Platform,
        faults: Faults,
        work: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self.request = copy.deepcopy(dict(request))
        self.name, self.arn, self.region = request["TrainingJobName"], arn, region
        self.tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self.status, self.secondary, self.reason = "InProgress", "", ""
        self.created = self.changed = now()
        self.started: float | None = None
        self.ended: float | None = None
        self.training_seconds = 0.0
        self.model_uri = ""
        self.transitions: list[dict[str, Any]] = []
        self.metrics = MetricFinder(request["AlgorithmSpecification"].get("MetricDefinitions", []))
        self.streams: list[str] = []
        self.trouble = ""
        self._platform, self._faults, self._work, self._settings = platform, faults, work, settings
        self._lines: list[tuple[float, str, str]] = []
        self._run: JobRun | None = None
        self._stopping: str | None = None
        self._changes = threading.Condition()
        self._thread = threading.Thread(target=self._live, name=f"job {self.name}", daemon=True)
        self._enter("Starting")

    @property
    def spot(self) -> bool:
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def machine(self) -> Mapping[str, Any]:
        return self.request["ResourceConfig"]

    @property
    def billable_seconds(self) -> int:
        trained = math.ceil(self.training_seconds)
        return int(trained * SPOT_BILL) if self.spot else trained

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float | None = None, secondary: str = "Stopped") -> None:
        """As StopTrainingJob. Raises AwsFault where the job has ended."""
        with self._changes:
            if self.status in FINAL:
                raise AwsFault(
                    "ValidationException",
                    f"The request was rejected because the training job is in status {self.status}.",
                )
            if self._stopping is None:
                self._stopping = secondary
                self.status = "Stopping"
                self._enter("Stopping")
                if self._run is not None:
                    self._run.stop(grace)

    def interrupt(self, grace: float | None = None) -> None:
        """Take the machines away and wait until they are gone. The job must be training."""
        self.wait_for("Training")
        assert self._run is not None
        assert self.spot, "only spot jobs are interrupted"
        self._run.interrupt(grace)
        with self._changes:
            assert self._changes.wait_for(lambda: self.secondary != "Training", timeout=150)

    def pass_time(self, seconds: float) -> None:
        """As if it had trained for so much longer: it may reach its time limit."""
        self.wait_for("Training")
        assert self._run is not None
        self._run.used += seconds

    def wait_for(self, *secondary: str, timeout: float = 120) -> None:
        """Until one of these statuses, or the end. Raises AssertionError when it does not come."""
        with self._changes:
            self._changes.wait_for(lambda: self.secondary in secondary or self.status in FINAL, timeout)
        assert self.secondary in secondary, f"{self.name} is {self.secondary}: {self.reason} {self.trouble}"

    def wait_for_line(self, words: str, timeout: float = 120, after: int = 0) -> str:
        """The first line of output with these words, beyond so many such lines; waits for it."""

        def found() -> list[str]:
            return [line for _, _, line in list(self._lines) if words in line][after:]

        with self._changes:
            self._changes.wait_for(lambda: found() or self.status in FINAL, timeout)
        assert found(), f"{self.name} ({self.secondary}: {self.reason}) never said {words!r}:\n{self.output}"
        return found()[0]

    @property
    def output(self) -> str:
        return "\n".join(line for _, _, line in list(self._lines))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Its processes stand still meanwhile, so it cannot end. A signal that comes then, it takes afterwards."""
        self.wait_for("Training")
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To all of its processes, which are known by the home that they inherited: it is in this job's own folder."""
        mark = f"HOME={self._work.resolve()}/".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if any(entry.startswith(mark) for entry in environ.read_bytes().split(b"\0")):
                    os.kill(int(environ.parent.name), number)

    def join(self, timeout: float = 150) -> None:
        """Until it has ended. Raises AssertionError when it goes on for longer."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"{self.name} is {self.secondary} after {timeout:g} s:\n{self.output}"

    def abandon(self) -> None:
        """Kill what runs; for the end of a test."""
        self._stopping = self._stopping or "Stopped"
        if self._run is not None:
            self._run.stop(0)
        if self._thread.ident is not None:
            self._thread.join(20)

    def _enter(self, secondary: str, sentence: str = "") -> None:
        with self._changes:
            self.changed = moment = now()
            if self.transitions:
                self.transitions[-1]["EndTime"] = moment
            self.secondary = secondary
            entry = {"Status": secondary, "StartTime": moment, "StatusMessage": sentence or SENTENCES[secondary]}
            self.transitions.append(entry)
            self._changes.notify_all()

    def _live(self) -> None:
        try:
            self._finish(*self._attempts())
        except AwsFault as fault:
            self._finish("Failed", "Failed", f"{fault.code}: {fault.message}")
        except Exception:
            self.trouble = traceback.format_exc()
            self._finish("Failed", "Failed", "InternalServerError: We encountered an internal error. Please try again.")
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _finish(self, status: str, secondary: str, reason: str) -> None:
        with self._changes:
            self.ended = now()
            self.status, self.reason = status, reason
            self._enter(secondary, reason)
            self.transitions[-1]["EndTime"] = self.transitions[-1]["StartTime"]

    def _attempts(self) -> tuple[str, str, str]:
        """(status, secondary status, reason) after as many runs as it takes."""
        if self._faults.takes_refusal(self.machine["InstanceType"]):
            return "Failed", "Failed", NO_CAPACITY
        used = 0.0
        while True:
            if self.spot and self._faults.withheld:
                self._enter("Starting", NO_SPOT)
            while self.spot and self._faults.withheld and not self._stopping:
                self._limit_wait()
                time.sleep(PUMP)
            if self._stopping:
                return "Stopped", self._stopping, ""
            outcome, used = self._attempt(used)
            if outcome.status != "Interrupted" or self._stopping:
                break
            self._enter("Interrupted")
            self._enter("Restarting")
        if outcome.status == "Failed":
            return "Failed", "Failed", outcome.reason
        self._upload(outcome)
        if outcome.status == "Completed" and not self._stopping:
            return "Completed", "Completed", ""
        return "Stopped", self._stopping or outcome.status, ""

    def _attempt(self, used: float) -> tuple[Outcome, float]:
        shutil.rmtree(self._work, ignore_errors=True)  # another machine
        run = JobRun(
            self.request,
            work=self._work,
            fill=self._fill,
            on_line=self._heard,
            region=self.region,
            used=used,
            **self._settings,
        )
        with self._changes:
            self._run = run
            if not self._stopping:
                self._enter("Downloading")
        run.prepare()
        config, syncs = self.request.get("CheckpointConfig"), []
        if config:
            syncs = [
                CheckpointSync(self._platform, run.folder(host) / "checkpoints", config["S3Uri"]) for host in run.hosts
            ]
            for sync in syncs:
                sync.restore()
        if self._stopping:
            run.stop(0)
        else:
            self._enter("Training")
        self.started = self.started or now()
        streams = self._open_streams(run)
        done = threading.Event()
        pump = threading.Thread(target=self._pump, args=(streams, syncs, done), daemon=True)
        pump.start()
        try:
            outcome = run.train()
        finally:
            done.set()
            pump.join()
        self.training_seconds += outcome.seconds
        return outcome, run.used

    def _fill(self, uri: str, folder: Path) -> None:
        try:
            found = self._platform.download(uri, folder)
        except ClientError:
            found = 0
        if not found:
            bucket = uri.removeprefix("s3://").partition("/")[0]
            raise AwsFault(
                "ClientError",
                f'Data download failed:No S3 objects found under S3 URL "{uri}" given in input data source. Please '
                f"ensure that the bucket exists in the selected region ({self.region}), that objects exist under that "
                f'S3 prefix, and that the role "{self.request["RoleArn"]}" has "s3:ListBucket" permissions on bucket '
                f'"{bucket}".',
            )

    def _heard(self, host: str, line: str) -> None:
        with self._changes:
            self._lines.append((now(), host, line))
            self._changes.notify_all()

    def _open_streams(self, run: JobRun) -> dict[str, str]:
        second = int(time.time())
        while any(stream.endswith(f"-{second}") for stream in self.streams):
            second += 1
        streams = {host: f"{self.name}/{host}-{second}" for host in run.hosts}
        for stream in streams.values():
            self._platform.open_log(stream)
        self.streams += streams.values()
        return streams

    def _pump(self, streams: Mapping[str, str], syncs: list[CheckpointSync], done: threading.Event) -> None:
        """While the job runs: its output to CloudWatch, its checkpoints to S3; and the rest when it has ended."""
        sent = len(self._lines)
        try:
            while True:
                last = done.wait(PUMP)
                lines = self._lines[sent:]
                sent += len(lines)
                for host, stream in streams.items():
                    self._platform.write_log(stream, [(moment, line) for moment, who, line in lines if who == host])
                for moment, _, line in lines:
                    self.metrics.read(moment, line)
                if points := self.metrics.take():
                    self._platform.put_metrics(self.name, points)
                for sync in syncs:
                    sync.sync()
                if last:
                    return
                self._limit_wait()
        except Exception:
            self.trouble = traceback.format_exc()

    def _limit_wait(self) -> None:
        wait = self.request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        if wait is not None and now() - self.created > wait and not self._stopping:
            self.stop(secondary="MaxWaitTimeExceeded")

    def _upload(self, outcome: Outcome) -> None:
        assert self._run is not None
        self._enter("Uploading")
        packed = self._run.pack(outcome)
        where = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
        for path in (packed.model, packed.output):
            if path is not None:
                self._platform.upload(path, f"{where}/{path.name}")
        if packed.model is not None:
            self.model_uri = f"{where}/model.tar.gz"
