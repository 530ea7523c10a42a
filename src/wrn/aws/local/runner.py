"""Run the body of a CreateTrainingJob request on this machine as SageMaker would, without Docker or AWS.

run = JobRun(request, work=Path("rehearsal"), fill=copy_channel, on_line=show)
outcome = run.run()
while outcome.status == "Interrupted":  # someone called run.interrupt(); the checkpoints are still there
    run = JobRun(request, work=Path("rehearsal"), fill=copy_channel, on_line=show, used=run.used)
    outcome = run.run()
"""

from __future__ import annotations

import os
import re
import shutil
import site
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from wrn.aws.account.partitions import partition
from wrn.aws.jobs.options import DAY
from wrn.aws.local.opt_ml import OPT_ML, Fill, failure_reason, fill_channels, lay_out, pack
from wrn.aws.local.sandbox import HostProcess, Isolation, best_isolation
from wrn.distributed.environment import REHEARSAL_VARIABLE
from wrn.errors import AwsError
from wrn.filesystem import is_dir, is_file

Status = Literal["Completed", "Failed", "Stopped", "MaxRuntimeExceeded", "Interrupted"]
"""As SageMaker names them in SecondaryStatus."""

GRACE = 120.0
"""Seconds between SIGTERM and SIGKILL on SageMaker."""

PROGRAM = ("train",)
"""What a SageMaker image runs if the request names no program: the toolkit's own."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OF_THE_MACHINE = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "TMPDIR", "TZ")
"""Variables that describe this machine: a job needs them, and none is a secret."""

POLL = 0.02
"""Seconds."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. reason: of a failure, in the form of FailureReason. seconds: from the first process to the last.

    model, output: the archives model.tar.gz and output.tar.gz; None if there was nothing to pack.
    """

    status: Status
    exit_code: int
    reason: str
    seconds: float
    model: Path | None = None
    output: Path | None = None


class JobRun:
    """One run of a job, from laying out its folders to packing its results.

    request: the body of CreateTrainingJob; assumed to be valid.
    work: a folder for everything of the job. Checkpoints of an earlier run are kept, and the job resumes from them;
        everything else of an earlier run is removed.
    fill: provides a channel's files.
    on_line: called with (host, line) for each line of output, from several threads if there are several hosts.
    on_phase: called with "Downloading", "Training", "Uploading" as each begins.
    environment: variables besides those set by SageMaker and by the request; credentials, if any, go here: those of the
        caller are not passed on.
    used: seconds of its time limit that earlier runs of the job took.
    grace: seconds between SIGTERM and SIGKILL.
    isolation: None for the best that the machine allows.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        work: Path,
        fill: Fill,
        on_line: Callable[[str, str], None] = lambda host, line: None,
        on_phase: Callable[[str], None] = lambda phase: None,
        region: str = "us-east-1",
        environment: Mapping[str, str] | None = None,
        used: float = 0.0,
        grace: float = GRACE,
        isolation: Isolation | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.isolation: Isolation = isolation or best_isolation()
        self.work = work.resolve()
        self.used = used
        self._fill, self._on_line, self._on_phase = fill, on_line, on_phase
        self._request, self._region, self._program, self._grace = request, region, tuple(program), grace
        self._more = dict(environment or {})
        self._asked: Status | None = None
        self._told_at: float | None = None
        self._limit: float = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DAY)
        count = request.get("ResourceConfig", {}).get("InstanceCount", 1)
        self._addresses = {f"algo-{number}": f"127.0.1.{number}" for number in range(1, count + 1)}
        place = request.get("CheckpointConfig", {}).get("LocalPath", f"{OPT_ML}/checkpoints")
        if place.rstrip("/") != f"{OPT_ML}/checkpoints":
            raise AwsError(f"CheckpointConfig.LocalPath: {place} is not {OPT_ML}/checkpoints, the only place here")
        if self.isolation == "folders" and not re.fullmatch(r"[\w./@+-]+", str(self.work)):
            raise AwsError(f"{self.work}: stands in a shell's text; give a folder of letters, digits and -_. alone")

    @property
    def hosts(self) -> tuple[str, ...]:
        """algo-1, algo-2, ..."""
        return tuple(self._addresses)

    def folder(self, host: str = "algo-1") -> Path:
        """The folder that a host sees as /opt/ml."""
        return self.work / host

    def run(self) -> Outcome:
        """Prepare, train and pack."""
        self.prepare()
        outcome = self.train()
        return outcome if outcome.status == "Interrupted" else self.pack(outcome)

    def stop(self, grace: float | None = None) -> None:
        """Ask the job to stop, from a signal handler or another thread; `run` returns soon after."""
        self._ask("Stopped", grace)

    def interrupt(self, grace: float | None = None) -> None:
        """Take the machine away, as with a spot instance. A grace of 0 means no warning."""
        self._ask("Interrupted", grace)

    def prepare(self) -> None:
        """Lay out /opt/ml of every host with its input."""
        self._on_phase("Downloading")
        for host in self.hosts:
            for entry in self.folder(host).glob("*"):
                if entry.name != "checkpoints":
                    shutil.rmtree(entry) if is_dir(entry) and not entry.is_symlink() else entry.unlink()
            names = [self._name(other) for other in self.hosts]
            lay_out(self.folder(host), self._placed(host), host=self._name(host), hosts=names)
            fill_channels(self.folder(host), self._request, self._fill)
            self._home(host).mkdir(exist_ok=True)
        known = Path("/etc/hosts").read_text(encoding="utf-8") if is_file(Path("/etc/hosts")) else ""
        lines = [f"{address} {host} {self._machine(host)}" for host, address in self._addresses.items()]
        (self.work / "hosts").write_text("\n".join([known.rstrip("\n"), *lines, ""]), encoding="utf-8")

    def train(self) -> Outcome:
        """Run the program of every host to its end. Call `prepare` first."""
        self._on_phase("Training")
        started = time.monotonic()
        running = {} if self._asked else {host: self._start(host) for host in self.hosts}
        codes: dict[str, int] = {}
        try:
            while running:
                self._look(running, codes, started)
                time.sleep(POLL)
        finally:
            for process in running.values():  # an exception, such as Ctrl-C, leaves nothing behind
                process.end()
        seconds = time.monotonic() - started
        self.used += seconds
        failed = next((host for host, code in codes.items() if code), None)
        asked = self._asked
        if asked == "Interrupted" and codes and failed is None:
            asked = None  # it finished at that very moment
        status: Status = asked or ("Failed" if failed else "Completed")
        code = codes[failed] if failed else 0
        reason = failure_reason(self.folder(failed), code) if failed and status == "Failed" else ""
        return Outcome(status, code, reason, seconds)

    def pack(self, outcome: Outcome) -> Outcome:
        """Pack what the job left: the model unless it failed, and output/data in any case."""
        self._on_phase("Uploading")

        def archive(folder: str, name: str) -> Path | None:
            return pack([self.folder(host) / folder for host in self.hosts], self.work / name)

        model = None if outcome.status == "Failed" else archive("model", "model.tar.gz")
        return replace(outcome, model=model, output=archive("output/data", "output.tar.gz"))

    def _look(self, running: dict[str, HostProcess], codes: dict[str, int], started: float) -> None:
        """Record which hosts have ended, and signal the others if it is time to."""
        for host, process in list(running.items()):
            if (code := process.poll()) is not None:
                codes[host] = code
                del running[host]
        if any(codes.values()):
            self._ask("Failed", None)  # a failing host takes the others down
        if running and time.monotonic() - started > self._limit - self.used:
            self._ask("MaxRuntimeExceeded", None)
        if self._asked is None:
            return
        now = time.monotonic()
        for process in running.values():
            if self._told_at is None and self._grace:
                process.terminate()
            elif self._told_at is None or now - self._told_at > self._grace:
                process.kill()
        self._told_at = self._told_at or now

    def _ask(self, status: Status, grace: float | None) -> None:
        if self._asked is None:
            self._grace = self._grace if grace is None else grace
            self._asked = status

    def _start(self, host: str) -> HostProcess:
        algorithm = self._placed(host)["AlgorithmSpecification"]
        program = [*algorithm.get("ContainerEntrypoint", self._program), *algorithm.get("ContainerArguments", [])]
        return HostProcess(
            program,
            root=self.folder(host),
            host=self._machine(host),
            hosts_file=self.work / "hosts",
            environment=self._environment(host),
            isolation=self.isolation,
            on_line=lambda line: self._on_line(host, line),
        )

    def _placed(self, host: str) -> dict[str, Any]:
        """The request as this host sees it: with its own folder for /opt/ml if that cannot be mounted."""
        return dict(self._request if self.isolation == "namespaces" else self._moved(self._request, host))

    def _moved(self, value: Any, host: str) -> Any:
        if isinstance(value, Mapping):
            return {key: self._moved(entry, host) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._moved(entry, host) for entry in value]
        return value.replace(OPT_ML, str(self.folder(host))) if isinstance(value, str) else value

    def _name(self, host: str) -> str:
        """The host's name for the job; an address if /etc/hosts cannot be mounted."""
        alone = len(self._addresses) == 1
        return host if self.isolation == "namespaces" or alone else self._addresses[host]

    def _machine(self, host: str) -> str:
        """The machine's own host name, which on AWS is not algo-1."""
        return f"ip-10-0-0-{host.removeprefix('algo-')}.{self._region}.compute.internal"

    def _home(self, host: str) -> Path:
        return self.work / f"{host}-home"

    def _environment(self, host: str) -> dict[str, str]:
        """What SageMaker sets (without the toolkit's SM_*), what this machine needs, and a mark that this is a
        rehearsal."""
        name = self._request["TrainingJobName"]
        account = self._request.get("RoleArn", "::::").split(":")[4]
        environment = {key: os.environ[key] for key in OF_THE_MACHINE if key in os.environ}
        environment |= {
            # The job uses the Python that runs this, with its packages.
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "PYTHONUSERBASE": site.getuserbase(),
            # A home without ~/.aws, and no instance credentials on EC2.
            "HOME": str(self._home(host)),
            "AWS_EC2_METADATA_DISABLED": "true",
            REHEARSAL_VARIABLE: "1",
            "AWS_REGION": self._region,
            "TRAINING_JOB_NAME": name,
            "TRAINING_JOB_ARN": f"arn:{partition(self._region)}:sagemaker:{self._region}:{account}:training-job/{name}",
        }
        if self.isolation == "folders":
            environment["SAGEMAKER_BASE_DIR"] = str(self.folder(host))
        return environment | self._placed(host).get("Environment", {}) | self._more
