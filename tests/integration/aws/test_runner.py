"""Jobs on this machine, with namespaces and without: what a job sees, how it is stopped, what is collected from it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wrn.aws.jobs.request import COMMAND
from wrn.aws.local.runner import JobRun, Outcome
from wrn.aws.local.sandbox import best_isolation
from wrn.aws.s3.code_archive import build_bundle
from wrn.distributed.environment import in_rehearsal
from wrn.errors import AwsError

ROOT = Path(__file__).resolve().parents[3]
ISOLATIONS = [
    pytest.param(
        "namespaces", marks=pytest.mark.skipif(best_isolation() != "namespaces", reason="needs Linux namespaces")
    ),
    "folders",
]


class Bench:
    """Runs shell programs as jobs in one work folder."""

    def __init__(self, work: Path, isolation: Any) -> None:
        self.work, self.isolation = work, isolation
        self.lines: list[str] = []
        self.filled: list[str] = []
        self.phases: list[str] = []
        self.on_line: Callable[[JobRun, str], None] = lambda run, line: None

    def fill(self, uri: str, folder: Path) -> None:
        self.filled.append(uri)
        (folder / "data.txt").write_text(f"from {uri}\n")

    def job(self, script: str, hosts: int = 1, seconds: int = 60, **more: Any) -> JobRun:
        request = {
            "TrainingJobName": "try-1",
            "RoleArn": "arn:aws:iam::111122223333:role/any",
            "AlgorithmSpecification": {
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["/bin/bash", "-c"],
                "ContainerArguments": [script],
            },
            "HyperParameters": {"lr": "0.1"},
            "InputDataConfig": [
                {"ChannelName": "training", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/data/"}}}
            ],
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": hosts},
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
            "Environment": {"COLOUR": "blue"},
        }

        def heard(host: str, line: str) -> None:
            self.lines.append(line)
            self.on_line(run, line)

        run = JobRun(
            request,
            work=self.work,
            fill=self.fill,
            on_line=heard,
            on_phase=self.phases.append,
            region="eu-west-1",
            isolation=self.isolation,
            **{"grace": 3.0, **more},
        )
        return run

    def run(self, script: str, **more: Any) -> Outcome:
        return self.job(script, **more).run()

    def when(self, word: str, act: Callable[[JobRun], None]) -> None:
        """Act once when a line of this word comes."""
        self.on_line = lambda run, line: act(run) if line == word else None


@pytest.fixture(params=ISOLATIONS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


def test_what_a_job_sees(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("GITHUB_TOKEN", "hush")
    outcome = bench.run(
        "cat /opt/ml/input/data/training/data.txt; cat /opt/ml/input/config/hyperparameters.json; echo; "
        "cat /opt/ml/input/config/resourceconfig.json; echo; python -c 'import sys; print(sys.executable)'; env"
    )
    assert (outcome.status, outcome.exit_code, outcome.reason) == ("Completed", 0, "")
    assert bench.phases == ["Downloading", "Training", "Uploading"]
    assert bench.lines[0] == "from s3://bucket/data/"
    assert json.loads(bench.lines[1]) == {"lr": "0.1"}
    resources = json.loads(bench.lines[2])
    assert (resources["current_host"], resources["hosts"]) == ("algo-1", ["algo-1"])
    variables = dict(line.split("=", 1) for line in bench.lines[4:] if "=" in line)
    assert variables["TRAINING_JOB_NAME"] == "try-1"
    assert in_rehearsal(variables)
    assert variables["TRAINING_JOB_ARN"] == "arn:aws:sagemaker:eu-west-1:111122223333:training-job/try-1"
    assert variables["AWS_REGION"] == "eu-west-1"
    assert variables["COLOUR"] == "blue"
    assert not [name for name in variables if name.startswith("SM_")]
    assert "hush" not in variables.values()
    assert not Path(variables["HOME"], ".aws").exists()


def test_the_python_inside_is_ours(bench: Bench) -> None:
    import sys

    bench.run("python -c 'import sys; print(sys.prefix)'")
    assert bench.lines == [sys.prefix]


def test_the_program_is_process_1_where_it_can_be(bench: Bench) -> None:
    outcome = bench.run("echo $$ $(ls /opt/ml 2>&1 | wc -l); ps ax 2>/dev/null | wc -l; exit 0")
    assert outcome.status == "Completed"
    if bench.isolation == "namespaces":
        assert bench.lines[0].split()[0] == "1"
        assert int(bench.lines[-1]) < 8, "sees the processes of this machine"


def test_results_are_packed(bench: Bench) -> None:
    outcome = bench.run("mkdir /opt/ml/model/code; echo w > /opt/ml/model/code/w; echo h > /opt/ml/output/data/h")
    assert outcome.model is not None
    assert outcome.output is not None
    with tarfile.open(outcome.model) as archive:
        assert archive.getnames() == ["code/w"]
    with tarfile.open(outcome.output) as archive:
        assert archive.getnames() == ["h"]
    second = bench.run("true")
    assert (second.model, second.output) == (None, None)


@pytest.mark.parametrize(("told", "reason"), [("the disk is full", "the disk is full"), (None, ""), ("x" * 2000, None)])
def test_a_failure_and_its_reason(bench: Bench, told: str | None, reason: str | None) -> None:
    leave = f"printf %s '{told}' > /opt/ml/output/failure; " if told else ""
    outcome = bench.run(f"{leave}echo w > /opt/ml/model/w; exit 7")
    assert (outcome.status, outcome.exit_code, outcome.model) == ("Failed", 7, None)
    if reason is None:
        assert len(outcome.reason) == 1024
        assert outcome.reason.endswith("x, exit code: 7")
    else:
        assert outcome.reason == f"AlgorithmError: {reason}, exit code: 7"


def test_killed_by_a_signal(bench: Bench) -> None:
    outcome = bench.run("bash -c 'kill -9 $$'; exit $?")
    assert outcome.reason == "AlgorithmError: , exit code: 137"


class Stubborn:
    """A program that SIGTERM does not end, nor the one that it starts, which sleeps for a time that no other does."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.seconds = f"300.{os.getpid()}{next(self.numbers):04d}"
        self.script = f"{IGNORES}; ({IGNORES}; exec sleep {self.seconds}) & echo ready; while :; do sleep 0.02; done"

    def sleeps(self) -> bool:
        """Whether the second program runs."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # gone meanwhile
                if path.read_bytes() == f"sleep\0{self.seconds}\0".encode():
                    return True
        return False

    def wait(self, sleeping: bool) -> None:
        """Until the second program runs, or is gone."""
        deadline = time.monotonic() + 20
        while self.sleeps() != sleeping:
            assert time.monotonic() < deadline, f"sleeping: {not sleeping}"
            time.sleep(0.01)


OBEDIENT = "trap 'echo saved > /opt/ml/checkpoints/step; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
IGNORES = "trap '' TERM"


def test_stopped(bench: Bench) -> None:
    bench.when("ready", lambda run: run.stop())
    outcome = bench.run(f"echo w > /opt/ml/model/w; {OBEDIENT}")
    assert (outcome.status, outcome.reason) == ("Stopped", "")
    assert outcome.model is not None, "what there is of the model is kept when a job is stopped"


def test_stopped_before_it_started(bench: Bench) -> None:
    run = bench.job("echo never")
    run.stop()
    assert run.run().status == "Stopped"
    assert bench.lines == []


def test_interrupted_and_gone_on_with(bench: Bench) -> None:
    script = (
        f"cat /opt/ml/checkpoints/step && ls /opt/ml/model /opt/ml/output && exit; echo w > /opt/ml/model/w; {OBEDIENT}"
    )
    bench.when("ready", lambda run: run.interrupt())
    first = bench.job(script)
    outcome = first.run()
    assert (outcome.status, outcome.exit_code, outcome.model) == ("Interrupted", 3, None)
    assert bench.job(script, used=first.used).run().status == "Completed"
    assert "saved" in bench.lines
    assert "w" not in bench.lines, "a new machine has nothing but the checkpoints"


def test_killed_after_the_grace_with_all_that_it_started(bench: Bench) -> None:
    stubborn = Stubborn()
    asked: list[float] = []

    def stop(run: JobRun) -> None:
        stubborn.wait(sleeping=True)
        asked.append(time.monotonic())
        run.stop()

    bench.when("ready", stop)
    outcome = bench.run(stubborn.script, grace=0.3)
    assert (outcome.status, outcome.exit_code) == ("Stopped", 137)
    assert 0.3 < time.monotonic() - asked[0] < 30
    stubborn.wait(sleeping=False)


def test_without_a_warning(bench: Bench) -> None:
    bench.when("ready", lambda run: run.interrupt(grace=0))
    assert bench.run(OBEDIENT).status == "Interrupted"
    assert not (bench.work / "algo-1/checkpoints/step").exists()


def test_the_time_limit_counts_all_runs(bench: Bench) -> None:
    outcome = bench.run(OBEDIENT, seconds=100, used=99.5)
    assert outcome.status == "MaxRuntimeExceeded"
    assert 0.4 < outcome.seconds < 50


def test_two_hosts_meet(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    meet = (
        "import json, socket, time\n"
        "facts = json.load(open('/opt/ml/input/config/resourceconfig.json'))\n"
        "first, me = facts['hosts'][0], facts['current_host']\n"
        "if me == first:\n"
        f"    server = socket.create_server((first, {port})); print('heard', server.accept()[0].recv(9).decode())\n"
        "else:\n"
        "    while True:\n"
        "        try:\n"
        f"            socket.create_connection((first, {port})).sendall(b'hello'); break\n"
        "        except OSError: time.sleep(0.02)\n"
        "open('/opt/ml/model/' + me, 'w').write('x')\n"
    )
    outcome = bench.run(f'python -c "{meet}"', hosts=2)
    assert outcome.status == "Completed", bench.lines
    assert bench.lines == ["heard hello"]
    assert outcome.model is not None
    with tarfile.open(outcome.model) as archive:
        assert len(archive.getnames()) == 2


def test_a_host_that_fails_takes_the_other_with_it(bench: Bench) -> None:
    which = 'grep -q \'current_host": "[a-z0-9.-]*1", "current_i\' /opt/ml/input/config/resourceconfig.json'
    outcome = bench.run(f"{which} && sleep 0.5 && exit 5; {OBEDIENT}", hosts=2)
    assert (outcome.status, outcome.reason) == ("Failed", "AlgorithmError: , exit code: 5")


def test_many_lines_come_whole_and_in_order(bench: Bench) -> None:
    outcome = bench.run("seq 20000; printf 'no end'")
    assert outcome.status == "Completed"
    assert bench.lines == [*(str(number) for number in range(1, 20001)), "no end"]


def test_stopped_from_another_thread(bench: Bench) -> None:
    run = bench.job(OBEDIENT)
    bench.when("ready", lambda run: threading.Timer(0.1, run.stop).start())
    assert run.run().status == "Stopped"


def test_an_exception_leaves_no_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = Stubborn()

    def look(*arguments: Any) -> None:
        stubborn.wait(sleeping=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobRun, "_look", look)
    with pytest.raises(KeyboardInterrupt):
        bench.run(stubborn.script)
    stubborn.wait(sleeping=False)


def test_wrn_tells_why_it_failed(bench: Bench) -> None:
    """The command of a real job, with the real code, up to a flag that is wrong."""
    run = bench.job(COMMAND)
    run._request["HyperParameters"] = {"depth": "11"}  # type: ignore[index]
    bundle = build_bundle(ROOT)
    source = {"S3DataSource": {"S3Uri": "s3://bucket/code/"}}
    run._request["InputDataConfig"] = [{"ChannelName": "code", "DataSource": source}]  # type: ignore[index]
    run._fill = lambda uri, folder: (folder / bundle.name).write_bytes(bundle.content)  # type: ignore[assignment]
    outcome = run.run()
    assert outcome.exit_code == 2, bench.lines
    assert outcome.reason.startswith("AlgorithmError: ConfigError: depth (flag): ")
    assert outcome.reason.endswith(", exit code: 2")


def test_no_namespaces_without_unshare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert best_isolation.__wrapped__() == "folders"


def test_places_and_modes_that_are_not_to_be_had(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "a b", "folders")
    with pytest.raises(AwsError, match="give a folder of letters"):
        bench.job("true")
    bench = Bench(tmp_path, "folders")
    run = bench.job("true")
    run._request["AlgorithmSpecification"]["TrainingInputMode"] = "Pipe"
    with pytest.raises(AwsError, match="use the input mode File"):
        run.run()
