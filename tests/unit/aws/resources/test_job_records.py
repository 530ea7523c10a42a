"""The records of jobs are removed if asked for: only wrn's, last of all, and only of finished jobs."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from fake_account import ACCOUNT, BUCKET, OWNER, REGION, client, make_bucket, make_job, make_log
from wrn.aws.account.session import Session
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources import storage
from wrn.aws.resources.permissions import clearing_policy
from wrn.cli import main
from wrn.cli import teardown as command
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

HERE = ["--region", REGION]


@pytest.fixture(autouse=True)
def _two_of_ours(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    make_bucket(BUCKET, ours=True)
    for name in ("wrn-a", "wrn-b"):
        make_job(name)
        make_log(name, ["one"], 1000 * int(time.time()))
    make_job("wrn-theirs", ours=False)


def jobs() -> list[str]:
    return sorted(
        entry["TrainingJobName"] for entry in client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    )


def test_they_stay_unless_asked_for(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teardown", "--yes", *HERE]) == 0
    assert "the records of 2 finished job(s); they cost nothing; --records removes them" in capsys.readouterr().err
    assert jobs() == ["wrn-a", "wrn-b", "wrn-theirs"]
    assert "DeleteTrainingJob" not in faults.seen
    assert main(["teardown", "--records", "--dry-run", "--json", *HERE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted((entry["kind"], entry["name"], entry["detail"]) for entry in told["found"]) == [
        ("record", "wrn-a", "completed job"),
        ("record", "wrn-b", "completed job"),
    ]
    assert main(["teardown", "--records", "--yes", *HERE]) == 0
    told = capsys.readouterr().err
    assert "removed record wrn-a" in told
    assert "SageMaker's list keeps" not in told
    assert jobs() == ["wrn-theirs"]


def test_shown_before_the_question(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("wrn.cli.aws_flags.at_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["teardown", "--records", *HERE]) == 0
    shown, _, after = capsys.readouterr().err.partition("Remove all of this")
    assert sorted(line.split()[:2] for line in shown.splitlines() if line.startswith("record")) == [
        ["record", "wrn-a"],
        ["record", "wrn-b"],
    ]
    assert "nothing was removed" in after
    assert len(jobs()) == 3


def test_they_go_after_what_is_found_by_them(
    faults: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(*_: Any) -> None:
        raise AwsError("wrn/x: Access Denied")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "empty", locked)
        assert main(["teardown", "--records", "--yes", *HERE]) == 2
    assert "the records of jobs stay until that is removed, as it is found through them" in capsys.readouterr().err
    assert len(jobs()) == 3
    assert main(["teardown", "--records", "--yes", *HERE]) == 0
    last = max(faults.seen.index(name) for name in ("DeleteLogStream", "DeleteBucket"))
    assert faults.seen.index("DeleteTrainingJob") > last
    assert jobs() == ["wrn-theirs"]


def test_a_denial_is_one_sentence(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    message = "User is not authorized to perform: sagemaker:DeleteTrainingJob"
    faults.refuse("DeleteTrainingJob", "AccessDeniedException", message, times=3)
    assert main(["teardown", "--records", "--yes", *HERE]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "DeleteTrainingJob" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"wrn teardown: records of jobs: DeleteTrainingJob: {message}")
    assert lines[0].endswith("see `wrn teardown --records --print-policy`")
    assert len(jobs()) == 3
    assert client("s3").list_buckets()["Buckets"] == [], "everything else is gone"


def test_machines_that_are_still_kept_ready(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    faults.refuse("DeleteTrainingJob", "ResourceInUse", "in use", times=1)
    assert main(["teardown", "--records", "--yes", *HERE]) == 0, "a second round finds them free"
    assert jobs() == ["wrn-theirs"]
    make_job("wrn-c")
    faults.refuse("DeleteTrainingJob", "ResourceInUse", "in use", times=3)
    assert main(["teardown", "--records", "--yes", *HERE]) == 2
    told = capsys.readouterr().err
    assert "record wrn-c: the job has not ended, or its instances are still kept warm" in told
    assert "removed record wrn-c" not in told


def test_an_older_boto3(faults: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Old:
        class meta:  # noqa: N801 - botocore's own name
            class service_model:  # noqa: N801
                operation_names = ("StopTrainingJob",)

    monkeypatch.setattr(Session, "client", lambda *_: Old)
    assert main(["teardown", "--records", "--yes", *HERE]) == 2
    assert capsys.readouterr().err == (
        "wrn teardown: records: this boto3 does not know DeleteTrainingJob; pip install --upgrade boto3, or leave out "
        "--records\n"
    )
    assert not [operation for operation in faults.seen if operation.startswith("Delete")]


def test_those_behind_hundreds_of_others_go_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wrn.aws.jobs import job as listing

    monkeypatch.setattr(listing, "NEWEST", 1)
    assert main(["teardown", "--records", "--dry-run", "--json", *HERE]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert sorted(entry["name"] for entry in found if entry["kind"] == "record") == ["wrn-a", "wrn-b"]
    assert main(["teardown", "--records", "--yes", *HERE]) == 0
    assert jobs() == ["wrn-theirs"]


def test_names_with_capitals(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    """An ARN has them in lower case: the tag index does not list a second job, and none is requested in vain."""
    make_job("MyExp")
    start = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/"
    for capital in ("MyExp", "myexp"):  # moto's own ARN of it has capitals, too
        arns = [{"ResourceARN": f"{start}{name}"} for name in (capital, "oldexp", "wrn-a", "wrn-b")]
        faults.say("GetResources", {"ResourceTagMappingList": arns})
    faults.say("ListTags", {"Tags": OWNER})
    assert main(["teardown", "--records", "--dry-run", "--json", *HERE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(entry["name"] for entry in told["found"] if entry["kind"] == "record") == ["MyExp", "wrn-a", "wrn-b"]
    (note,) = [note for note in told["notes"] if "cannot be described" in note]
    assert note == f"{start}oldexp has wrn's tag but cannot be described by that name: its record stays"


def test_the_right_only_where_it_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    place = DeployOptions(name="any", account=ACCOUNT, region=REGION)
    for flags, there in (([], False), (["--records"], True)):
        assert main(["teardown", "--print-policy", "--account", ACCOUNT, *flags, *HERE]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == clearing_policy([place], records=there)
        (statement,) = [entry for entry in printed["Statement"] if "sagemaker:StopTrainingJob" in entry["Action"]]
        assert ("sagemaker:DeleteTrainingJob" in statement["Action"]) == there
        assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/created-by": "wrn"}}


@pytest.mark.parametrize(
    ("operation", "what"), [("DescribeLogStreams", "logs"), ("ListObjectVersions", "buckets")], ids=["logs", "buckets"]
)
def test_they_stay_where_what_is_found_by_them_was_not_looked_at(
    operation: str, what: str, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.refuse(operation, "AccessDeniedException", "not you", status=403, times=50)
    main(["teardown", "--records", "--yes", *HERE])
    assert f"the records of jobs stay: {what} are found through them" in capsys.readouterr().err
    assert jobs() == ["wrn-a", "wrn-b", "wrn-theirs"]


def test_older_ones_that_cannot_be_looked_for_are_told(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    faults.refuse("GetResources", "AccessDeniedException", "not you", status=403, times=50)
    assert main(["teardown", "--records", "--yes", *HERE]) == 0
    assert "older records of jobs could not be listed" in capsys.readouterr().err
    assert jobs() == ["wrn-theirs"]
