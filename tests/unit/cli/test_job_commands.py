"""The commands for an existing job, as users and programs see them."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from moto.sagemaker.models import sagemaker_backends

import wrn.cli.logs as logs_command
from fake_account import ACCOUNT, BUCKET, REGION, client, make_bucket, make_job, make_log
from fake_job import FakeJob, epoch_line
from wrn.aws.account.errors import Denied, NotThere
from wrn.aws.account.session import Session
from wrn.aws.jobs.job import Job
from wrn.cli import main
from wrn.errors import AwsError

LINES = ["fresh start: no checkpoint in /opt/ml/checkpoints", epoch_line(1), epoch_line(2, top1=0.25)]


@pytest.fixture
def job(account: None) -> Any:
    """A job of moto's, which a test may change; it is over, as all of moto's are."""
    make_bucket(BUCKET, ours=True)
    make_job("wrn-a")
    make_log("wrn-a", LINES, 1000 * int(time.time()) - 10_000)
    found = sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a"]
    found.algorithm_specification = {"TrainingImage": "1.example/x", "TrainingInputMode": "File"}
    return found


def set_state(job: Any, status: str, secondary: str) -> None:
    job.training_job_status, job.secondary_status = status, secondary
    now = datetime.now(tz=UTC)
    job.secondary_status_transitions = [{"Status": secondary, "StartTime": now, "StatusMessage": ""}]
    job.training_end_time = None if status == "InProgress" else now


def test_logs_gives_the_log_word_for_word(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "wrn-a"]) == 0
    assert capsys.readouterr().out.splitlines() == LINES
    assert main(["logs", "wrn-a", "--json", "--debug"]) == 0
    told = capsys.readouterr()
    assert [json.loads(line)["message"] for line in told.out.splitlines()] == LINES
    assert "requests to AWS: sagemaker DescribeTrainingJob, logs DescribeLogStreams, logs GetLogEvents x 2" in told.err


def test_logs_before_the_first_line(account: None, capsys: pytest.CaptureFixture[str]) -> None:
    make_job("wrn-a")
    assert main(["logs", "wrn-a"]) == 0
    assert "wrn-a (Completed) has written no log" in capsys.readouterr().err


def test_following_to_the_end(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job.training_time_in_seconds, job.billable_time_in_seconds = 300, 90
    job.enable_managed_spot_training = True
    assert logs_command.follow_job(Session(), "wrn-a", ceiling=5.0, settle=0) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == LINES
    assert told.err.splitlines()[-5:] == [
        "wrn-a: completed",
        "epoch 2 of 10: test top-1 25.00%, test top-5 80.00%",
        "billed: 2 min; $0.04 of at most $5.00 (list price of us-west-2, seen 2026-11: not that of eu-west-1)",
        "spot saved 70% of the cost, with 0 interruptions",
        "next: wrn fetch wrn-a --output-dir runs/wrn-a",
    ]
    assert logs_command.follow_job(Session(), "wrn-a", ceiling=None, json_lines=True, settle=0) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == "end"
    assert lines[-1]["billable_seconds"] == 90
    assert lines[-1]["spot_savings"] == pytest.approx(0.7)
    assert {entry["type"] for entry in lines} == {"line", "phase", "epoch", "end"}


def test_following_a_job_that_fails(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    set_state(job, "Failed", "Failed")
    job.failure_reason = "AlgorithmError: DataError: there is no such file, exit code: 2"
    job.billable_time_in_seconds = 90
    with pytest.raises(AwsError) as caught:
        logs_command.follow_job(Session(), "wrn-a", ceiling=5.0, settle=0)
    reason, advice, bill, then = str(caught.value).split("\n")
    assert reason == "wrn-a: failed: AlgorithmError: DataError: there is no such file, exit code: 2"
    assert "change what its message names" in advice
    assert bill.startswith("billed: 2 min; $0.04 of at most $5.00")
    assert then == "next: wrn deploy again, with that changed"
    set_state(job, "Stopped", "MaxRuntimeExceeded")
    assert logs_command.follow_job(Session(), "wrn-a", ceiling=None, settle=0) == 3
    assert "next: wrn resume wrn-a" in capsys.readouterr().err


def test_a_failed_job_is_explained_with_its_bill_and_the_next_step(
    job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    set_state(job, "Failed", "Failed")
    job.failure_reason = "AlgorithmError: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB, exit code: 1"
    job.billable_time_in_seconds = 90
    assert main(["status", "wrn-a"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip())
    assert rows["failed"] == job.failure_reason
    assert "the memory of the GPU was too small" in rows["cause"]
    assert "--micro-batch" in rows["fix"]
    assert rows["cost"].startswith("$0.04 of at most")
    assert rows["next:"] == "wrn resume wrn-a --instance-type ml.g6e.xlarge"
    assert main(["status", "wrn-a", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)["advice"]
    assert (advice["kind"], advice["instance_type"]) == ("gpu memory", "ml.g6e.xlarge")
    assert main(["logs", "-f", "wrn-a", "--json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["advice"] == advice
    assert told.err.splitlines()[-1] == "wrn logs: next: wrn resume wrn-a --instance-type ml.g6e.xlarge"


def test_resume_says_that_it_cannot_help(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    set_state(job, "Failed", "Failed")
    job.failure_reason = "AlgorithmError: TrainingError: the loss or its gradient was not finite, exit code: 2"
    assert main(["resume", "wrn-a", "--yes"]) == 0
    assert "careful: wrn-a failed, and may fail again: the training diverged" in capsys.readouterr().err
    job.failure_reason = "ClientError: Please use an instance type with more memory"
    assert main(["resume", "wrn-a", "--yes", "--name", "a"]) == 0
    assert "--instance-type ml.g6.2xlarge has more memory" in capsys.readouterr().err
    assert main(["resume", "wrn-a", "--yes", "--name", "b", "--instance-type", "g6.2xlarge"]) == 0
    job.failure_reason = "InternalServerError: We encountered an internal error.  Please try again."
    assert main(["resume", "wrn-a", "--yes", "--name", "c"]) == 0
    assert "careful" not in capsys.readouterr().err


def test_status_for_people_and_programs(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    set_state(job, "InProgress", "Training")
    client("s3").put_object(Bucket=BUCKET, Key="wrn/checkpoints/wrn-a/step-1", Body=b"x")
    assert main(["status", "wrn-a"]) == 0
    shown = capsys.readouterr().out
    assert "epoch 2/10, test top-1 25.00%, 2,875 images/s" in shown
    assert f"s3://{BUCKET}/wrn/checkpoints/wrn-a, newest" in shown
    assert "next: wrn logs -f wrn-a" in shown
    assert main(["status", "wrn-a", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "InProgress"
    assert told["progress"]["epoch"] == 2
    assert told["newest_checkpoint_age_seconds"] < 60
    assert told["warnings"] == []


def test_names_that_do_not_exist_are_one_sentence(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "logs", "stop", "resume", "fetch"):
        assert main([command, "wrn-b"]) == 2
        assert capsys.readouterr().err == (
            f"wrn {command}: there is no training job wrn-b in eu-west-1; did you mean wrn-a?\n"
        )


def test_jobs(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    make_job("by-tag")
    make_job("of-others", ours=False)
    assert main(["jobs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {entry["job"] for entry in told} == {"wrn-a", "by-tag"}
    assert main(["jobs"]) == 0
    assert "of-others" not in capsys.readouterr().out
    assert main(["jobs", "--running"]) == 0
    assert "no running wrn job" in capsys.readouterr().err


def test_stop_says_what_it_did(job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "wrn-a"]) == 0
    assert capsys.readouterr().err == "wrn-a is completed already\n"
    set_state(job, "InProgress", "Training")
    stopped: list[Job] = []
    monkeypatch.setattr("wrn.cli.stop.stop", lambda session, found: not stopped.append(found))
    assert main(["stop", "wrn-a"]) == 0
    assert "`wrn resume wrn-a` resumes it" in capsys.readouterr().err
    assert [found.name for found in stopped] == ["wrn-a"]


def test_machines_that_are_kept_ready(
    job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []
    call = Session.call

    def record(session: Session, service: str, operation: str, request: Any = None) -> dict[str, Any]:
        """moto knows neither of the two."""
        if operation in ("StopTrainingJob", "UpdateTrainingJob"):
            sent.append((operation, request))
            return {}
        return call(session, service, operation, request)

    monkeypatch.setattr(Session, "call", record)
    set_state(job, "InProgress", "Training")
    assert main(["stop", "wrn-a"]) == 0
    assert "stay warm" not in capsys.readouterr().err
    job.resource_config = {**job.resource_config, "KeepAlivePeriodInSeconds": 1800}
    assert main(["stop", "wrn-a"]) == 0
    told = capsys.readouterr().err.splitlines()[1]
    assert "its instances may stay warm, and billed, for up to 30 min after that; `wrn stop wrn-a` rele" in told
    assert [operation for operation, _ in sent] == ["StopTrainingJob"] * 2
    set_state(job, "Stopped", "Stopped")
    job.warm_pool_status = {"Status": "Available"}
    assert main(["stop", "wrn-a"]) == 0
    assert capsys.readouterr().err == ("wrn-a is stopped already; the instances that it kept warm are released\n")
    released = {"TrainingJobName": "wrn-a", "ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    assert sent[2:] == [("UpdateTrainingJob", released)]
    job.warm_pool_status = {"Status": "Terminated"}
    assert main(["stop", "wrn-a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machines_released"] is False
    assert len(sent) == 3


def test_resume_starts_a_job_from_the_old_ones_checkpoints(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    set_state(job, "Stopped", "Stopped")
    assert main(["resume", "wrn-a", "--dry-run"]) == 0
    request = json.loads(capsys.readouterr().out)
    assert request["TrainingJobName"] == "wrn-a-r2"
    assert main(["resume", "wrn-a", "--instance-type", "g6.xlarge", "--max-minutes", "30", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "wrn-a-r2 started; it starts from scratch: s3://" in told
    assert "is empty, for at most 30 min and $0.66" in told
    assert "next: wrn logs -f wrn-a-r2" in told
    fresh = client("sagemaker").describe_training_job(TrainingJobName="wrn-a-r2")
    assert fresh["CheckpointConfig"]["S3Uri"] == f"s3://{BUCKET}/wrn/checkpoints/wrn-a"
    assert fresh["ResourceConfig"]["InstanceType"] == "ml.g6.xlarge"
    tags = client("sagemaker").list_tags(ResourceArn=fresh["TrainingJobArn"])["Tags"]
    assert {"Key": "wrn-user", "Value": "moto"} in tags, "who resumes it"
    client("s3").put_object(Bucket=BUCKET, Key="wrn/checkpoints/wrn-a/step-1", Body=b"x")
    assert main(["resume", "wrn-a", "--json", "--yes"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["job"] == "wrn-a-r3"
    assert "it resumes from" in shown.err
    assert main(["resume", "wrn-a", "--instance-type", "ml.g5.xlarg"]) == 2
    assert main(["resume", "wrn-a"]) == 2
    assert "no terminal to confirm on" in capsys.readouterr().err


def test_resume_starts_no_second_job_on_the_same_checkpoints(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    set_state(job, "Stopped", "Stopped")
    assert main(["resume", "wrn-a", "--yes"]) == 0
    running = sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a-r2"]
    set_state(running, "InProgress", "Training")
    capsys.readouterr()
    assert main(["resume", "wrn-a", "--yes"]) == 2
    assert "wrn-a-r2 has already resumed from these checkpoints; `wrn logs -f wrn-a-r2`" in capsys.readouterr().err
    set_state(running, "Stopped", "Stopped")
    assert main(["resume", "wrn-a", "--yes"]) == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotThere("HeadBucket: Not Found (404)"), "with the code and the checkpoints of wrn-a, no longer exists"),
        (Denied("HeadBucket: Forbidden (403)"), "of wrn-a, now belongs to another account, or denies access"),
    ],
)
def test_resume_runs_no_code_of_a_bucket_that_is_not_ours_any_more(
    error: AwsError, words: str, job: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_state(job, "Stopped", "Stopped")
    real, asked = Session.call, list[dict[str, Any] | None]()

    def call(self: Session, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        if operation == "HeadBucket":
            asked.append(request)
            raise error
        assert operation != "CreateTrainingJob"
        return real(self, service, operation, request)

    monkeypatch.setattr(Session, "call", call)
    assert main(["resume", "wrn-a", "--yes"]) == 2
    assert asked == [{"Bucket": BUCKET, "ExpectedBucketOwner": ACCOUNT}]
    told = capsys.readouterr().err
    assert words in told
    assert "start over with `wrn deploy`" in told


def test_ctrl_c_without_a_terminal_leaves_the_job_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = FakeJob()
    monkeypatch.setattr(job, "clock", time.time)
    wait = logs_command.CtrlC.wait
    waits: list[float] = []

    def pressed_in_the_third(ctrl_c: logs_command.CtrlC, seconds: float) -> bool:
        """A handler takes the signal by now: without one it would end all tests."""
        waits.append(seconds)
        assert len(waits) <= 3, "it continues after Ctrl-C"
        if len(waits) == 3:
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            signal.raise_signal(signal.SIGINT)
        return wait(ctrl_c, seconds)

    monkeypatch.setattr(logs_command.CtrlC, "wait", pressed_in_the_third)
    assert logs_command.follow_job(job, "wrn-a", ceiling=None, look=0.05) == 3  # type: ignore[arg-type]
    assert len(waits) == 3
    assert "wrn-a is left running; `wrn logs -f wrn-a` follows it again" in capsys.readouterr().err
    assert ("sagemaker", "StopTrainingJob") not in job.sent


def test_ctrl_c_while_aws_does_not_answer_leaves_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = FakeJob()

    def unanswered(*_: Any) -> None:
        monkeypatch.setattr(logs_command, "WATCH", SimpleNamespace(is_late=True))
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the request goes on")

    monkeypatch.setattr(job, "pages", unanswered)
    assert logs_command.follow_job(job, "wrn-a", ceiling=None) == 3  # type: ignore[arg-type]
    assert "wrn-a is left running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "choice", "stops"),
    [("\n", "leave", False), ("l\n", "leave", False), ("f\n", "follow", False), ("s\n", "follow", True)],
)
def test_ctrl_c_at_a_terminal_asks(answer: str, choice: str, stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = FakeJob()
    monkeypatch.setattr(logs_command, "at_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert logs_command.ask_what_to_do(job, Job(job.answer)) == choice  # type: ignore[arg-type]
    assert (("sagemaker", "StopTrainingJob") in job.sent) == stops


def test_the_second_ctrl_c_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    with logs_command.CtrlC() as ctrl_c:
        os.kill(os.getpid(), signal.SIGINT)
        assert ctrl_c.wait(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_any_region_it_looks_where_deploy_goes(
    account: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert main(["jobs"]) == 0
    assert "in us-east-1" in capsys.readouterr().err
