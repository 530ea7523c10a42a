"""Teardown removes everything of wrn, and nothing of others."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from moto.sagemaker.models import sagemaker_backends

from fake_account import (
    ACCOUNT,
    BUCKET,
    OWNER,
    REGION,
    client,
    make_bucket,
    make_endpoint,
    make_job,
    make_log,
    make_role,
)
from wrn.aws.account.errors import Denied
from wrn.aws.account.session import Session
from wrn.aws.resources import kinds as services
from wrn.aws.resources import storage, teardown
from wrn.aws.resources.inventory import take_inventory
from wrn.aws.resources.resource import Resource
from wrn.aws.resources.teardown import remove
from wrn.cli import main
from wrn.errors import AwsError

pytestmark = pytest.mark.usefixtures("account")


def fill(bucket: str, *keys: str) -> None:
    for key in keys:
        client("s3").put_object(Bucket=bucket, Key=key, Body=b"x" * 1000)


def everything_of_ours() -> None:
    make_bucket(BUCKET, ours=True, versioned=True)
    fill(BUCKET, "wrn/code/a", "wrn/data/b", "wrn/data/b", "elsewhere")
    client("s3").delete_object(Bucket=BUCKET, Key="elsewhere")  # leaves a version and a marker
    upload = client("s3").create_multipart_upload(Bucket=BUCKET, Key="wrn/data/half")["UploadId"]
    client("s3").upload_part(Bucket=BUCKET, Key="wrn/data/half", UploadId=upload, PartNumber=1, Body=b"y" * 500)
    make_job("wrn-a")
    make_job("of-ours-with-another-name")
    make_log("wrn-a", ["one"], 1000 * int(time.time()))
    make_endpoint("wrn-endpoint", ours=True)
    make_role("wrn-training", ours=True)
    cloudwatch = client("cloudwatch")
    for name, tags in (("wrn-failed", OWNER), ("wrn-of-others", [])):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods=1,
            MetricName="x",
            Namespace="y",
            Period=60,
            Statistic="Sum",
            Threshold=0,
            Tags=tags,
        )
    body = {"widgets": [{"type": "text", "properties": {"markdown": "created-by=wrn"}}]}
    cloudwatch.put_dashboard(DashboardName="wrn-eu-west-1", DashboardBody=json.dumps(body))
    client("ecr").create_repository(repositoryName="wrn", tags=OWNER)
    topic = client("sns").create_topic(Name="wrn-jobs", Tags=OWNER)["TopicArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="me@example.com")
    for name in ("wrn-jobs", "wrn-job-failed-0123abcd"):
        client("events").put_rule(Name=name, EventPattern='{"source": ["aws.sagemaker"]}', Tags=OWNER)
        client("events").put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": topic}])


def everything_of_others() -> None:
    make_bucket("wrn-not-ours", ours=False)
    fill("wrn-not-ours", "wrn/precious")
    make_bucket("theirs", ours=False, versioned=True)
    fill("theirs", "precious", "wrnx/precious", "wrn/output/wrn-a/model.tar.gz")
    make_job("wrn-theirs", "wrn-not-ours", ours=False)
    make_log("wrn-theirs", ["two"], 1000 * int(time.time()))
    make_log("wrn-a-2", ["three"], 1000 * int(time.time()))
    make_endpoint("theirs", ours=False)
    make_role("wrn-of-others", ours=False)
    client("ecr").create_repository(repositoryName="theirs")
    client("sns").create_topic(Name="wrn-of-others")
    client("events").put_rule(Name="wrn-of-others", EventPattern='{"source": ["aws.sagemaker"]}')
    body = {"widgets": [{"type": "text", "properties": {"markdown": "theirs"}}]}
    client("cloudwatch").put_dashboard(DashboardName="wrn-of-others", DashboardBody=json.dumps(body))


def what_is_there() -> dict[str, list[str]]:
    sagemaker, s3, cloudwatch = client("sagemaker"), client("s3"), client("cloudwatch")
    buckets = sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"])
    streams = client("logs").describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs")["logStreams"]
    return {
        "buckets": buckets,
        "objects": [
            f"{bucket}/{entry['Key']}"
            for bucket in buckets
            for kind in ("Versions", "DeleteMarkers")
            for entry in s3.list_object_versions(Bucket=bucket).get(kind, [])
        ],
        "endpoints": [entry["EndpointName"] for entry in sagemaker.list_endpoints()["Endpoints"]],
        "configs": [entry["EndpointConfigName"] for entry in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "models": [entry["ModelName"] for entry in sagemaker.list_models()["Models"]],
        "alarms": [entry["AlarmName"] for entry in cloudwatch.describe_alarms()["MetricAlarms"]],
        "dashboards": [entry["DashboardName"] for entry in cloudwatch.list_dashboards()["DashboardEntries"]],
        "roles": [entry["RoleName"] for entry in client("iam").list_roles()["Roles"]],
        "images": [entry["repositoryName"] for entry in client("ecr").describe_repositories()["repositories"]],
        "topics": [entry["TopicArn"].rpartition(":")[2] for entry in client("sns").list_topics()["Topics"]],
        "subscriptions": [entry["Endpoint"] for entry in client("sns").list_subscriptions()["Subscriptions"]],
        "rules": [entry["Name"] for entry in client("events").list_rules()["Rules"]],
        "logs": [stream["logStreamName"] for stream in streams],
    }


def test_all_of_ours_goes_and_all_of_others_stays(capsys: pytest.CaptureFixture[str]) -> None:
    everything_of_ours()
    everything_of_others()
    make_job("wrn-b", "theirs")  # deployed with --bucket theirs
    assert main(["teardown", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "removed bucket wrn-123456789012-eu-west-1" in told
    assert "SageMaker's list keeps the records of 3 finished job(s)" in told
    assert what_is_there() == {
        "buckets": ["theirs", "wrn-not-ours"],
        "objects": ["theirs/precious", "theirs/wrnx/precious", "wrn-not-ours/wrn/precious"],
        "endpoints": ["theirs"],
        "configs": ["theirs"],
        "models": ["theirs"],
        "alarms": ["wrn-of-others"],
        "dashboards": ["wrn-of-others"],
        "roles": ["wrn-of-others"],
        "images": ["theirs"],
        "topics": ["wrn-of-others"],
        "subscriptions": [],
        "rules": ["wrn-of-others"],
        "logs": ["wrn-a-2/algo-1-1", "wrn-theirs/algo-1-1"],
    }
    assert main(["teardown"]) == 0  # nothing left: nothing to confirm
    assert "no wrn resources in account 123456789012, eu-west-1" in capsys.readouterr().err


def test_a_dry_run_removes_nothing_and_tells_sizes_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    everything_of_ours()
    before = what_is_there()
    assert main(["teardown", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] == []
    found = {(entry["kind"], entry["name"]): entry for entry in told["found"]}
    bucket = found["bucket", BUCKET]
    assert bucket["bytes"] == 4500
    assert bucket["detail"] == "5 objects and versions, 1 unfinished upload"
    assert found["endpoint", "wrn-endpoint"]["usd_per_hour"] == pytest.approx(0.7364)
    assert found["endpoint", "wrn-endpoint"]["usd_per_month"] == pytest.approx(0.7364 * 730)
    assert list(dict.fromkeys(entry["kind"] for entry in told["found"])) == [
        "endpoint",
        "endpoint configuration",
        "model",
        "alarm",
        "dashboard",
        "event rule",
        "topic",
        "log",
        "bucket",
        "image repository",
        "role",
    ]
    assert what_is_there() == before


def test_without_a_terminal_and_without_yes_nothing_happens(capsys: pytest.CaptureFixture[str]) -> None:
    make_bucket(BUCKET, ours=True)
    assert main(["teardown"]) == 2
    assert "no terminal to confirm on; give --yes" in capsys.readouterr().err
    assert [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]] == [BUCKET]


def test_a_bucket_of_the_users_without_a_job_is_named_by_flag() -> None:
    make_bucket("theirs", ours=False)
    sent = f"wrn/data/cifar100/{'0a' * 16}"
    fill("theirs", f"{sent}/x", f"{sent}.complete", "wrn/code/a/a.tar.gz", "precious", "wrn/birds", "wrn/data/birds/1")
    assert main(["teardown", "--yes", "--bucket", "s3://theirs/"]) == 0
    left = [entry["Key"] for entry in client("s3").list_objects_v2(Bucket="theirs")["Contents"]]
    assert left == ["precious", "wrn/birds", "wrn/data/birds/1"], "what wrn did not put there"
    assert main(["teardown", "--yes", "--bucket", "theirs/deep"]) == 2


def test_data_that_a_job_was_given_stays_wherever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    make_bucket("theirs", ours=False)
    make_job("wrn-a", "theirs", data="s3://theirs/wrn/output/birds")
    fill("theirs", "wrn/output/birds/1.png", "wrn/output/wrn-a/model.tar.gz")
    assert main(["teardown", "--yes"]) == 0
    assert [entry["Key"] for entry in client("s3").list_objects_v2(Bucket="theirs")["Contents"]] == [
        "wrn/output/birds/1.png"
    ]
    assert "note: s3://theirs/wrn/output/birds stays: it was given to a job as its data\n" in capsys.readouterr().err


def test_a_role_that_other_regions_use_stays(capsys: pytest.CaptureFixture[str]) -> None:
    make_bucket(BUCKET, ours=True)
    make_bucket("wrn-123456789012-us-west-2", ours=True, region="us-west-2")
    make_role("wrn-training", ours=True)
    assert main(["teardown", "--yes"]) == 0
    assert "wrn-training stays: wrn also has wrn-123456789012-us-west-2 in other regions" in capsys.readouterr().err
    assert main(["teardown", "--yes", "--region", "us-west-2"]) == 0
    assert client("iam").list_roles()["Roles"] == []
    assert client("s3").list_buckets()["Buckets"] == []


def test_what_cannot_be_removed_is_told_and_the_rest_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything_of_ours()

    def locked(session: Session, part: storage.Part) -> None:
        raise AwsError(f"1 objects in {part.bucket} cannot be removed; the first, wrn/x: Access Denied")

    monkeypatch.setattr(storage, "empty", locked)
    assert main(["teardown", "--yes"]) == 2
    told = capsys.readouterr().err
    assert "bucket wrn-123456789012-eu-west-1: 1 objects" in told
    assert "repeat `wrn teardown`" in told
    assert client("iam").list_roles()["Roles"] == []
    monkeypatch.undo()


def test_what_may_not_be_looked_at_becomes_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(session: Session) -> None:
        raise Denied("DescribeBudgets: not allowed")

    monkeypatch.setattr(services, "budgets", denied)
    assert take_inventory(Session()).notes == ["budgets could not be inspected: DescribeBudgets: not allowed"]


def test_running_jobs_stop_before_their_bucket_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    states = ["InProgress", "InProgress", "Stopping", "Stopped"]

    class Scripted:
        def call(self, service: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
            if operation == "DescribeTrainingJob":
                status = states.pop(0) if len(states) > 1 else states[0]
                warm = {"Status": "Available" if status == "Stopped" else "InUse"}
                return {"TrainingJobName": "wrn-a", "TrainingJobStatus": status, "WarmPoolStatus": warm}
            happened.append(operation)
            return {}

    monkeypatch.setattr(storage, "empty", lambda session, part: happened.append("empty"))
    resources = [Resource("training job", "wrn-a"), Resource("bucket", "b")]
    told: list[str] = []
    assert remove(Scripted(), resources, told.append, sleep=lambda seconds: None) == []  # type: ignore[arg-type]
    assert happened == ["StopTrainingJob", "UpdateTrainingJob", "empty", "DeleteBucket"]
    assert told[0] == "stopping training job wrn-a"
    assert told[1].startswith("waiting for wrn-a to stop")
    assert told[2] == "released warm pool wrn-a", "it was to keep its instances for the next job"


def test_what_a_job_uses_stays_until_it_has_stopped() -> None:
    """It may take longer than anyone waits, or may not be stopped at all."""
    happened: list[str] = []

    class Busy:
        refused = False

        def call(self, service: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
            if operation == "DescribeTrainingJob":
                return {"TrainingJobName": "wrn-a", "TrainingJobStatus": "InProgress"}
            if self.refused:
                raise Denied("StopTrainingJob: not you")
            happened.append(operation)
            return {}

    kinds = ("training job", "topic", "log", "bucket", "objects", "image repository", "role", "rights of role")
    resources = [Resource(kind, "wrn-a", data={"arn": "x"}) for kind in kinds]
    slept: list[float] = []
    with pytest.raises(AwsError, match=r"^wrn-a has not stopped: buckets, .* stay until then; repeat this command"):
        remove(Busy(), resources, lambda text: None, sleep=slept.append)  # type: ignore[arg-type]
    assert happened == ["StopTrainingJob", "DeleteTopic"]
    assert sum(slept) == 60 * teardown.STOP_MINUTES
    busy = Busy()
    busy.refused = True
    with pytest.raises(AwsError, match=r"(?s)^training job wrn-a: StopTrainingJob: not you.*wrn-a has not stopped"):
        remove(busy, resources[:1], lambda text: None, sleep=slept.append)  # type: ignore[arg-type]
    assert sum(slept) == 60 * teardown.STOP_MINUTES, "there is nothing to wait for"


def test_every_kind_has_its_removal() -> None:
    assert set(teardown.REMOVALS) >= {"training job", "tuning job", "warm pool", "objects", "budget", "role"}


def test_more_objects_than_one_request_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "AT_ONCE", 2)
    make_bucket(BUCKET, ours=True)
    fill(BUCKET, *"abcde")
    storage.empty(Session(), storage.Part(BUCKET))
    assert storage.measure(Session(), storage.Part(BUCKET)) == storage.Size(0, 0, 0)
    assert storage.measure(Session(), storage.Part("wrn-no-such-bucket")) == storage.Size(0, 0, 0)


def test_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs"]) == 0
    assert "no wrn resource costs money in account 123456789012, eu-west-1" in capsys.readouterr().out
    everything_of_ours()
    everything_of_others()
    assert main(["costs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["usd_per_hour"] == pytest.approx(0.7364)
    assert told["usd_per_month"] == pytest.approx(0.7364 * 730 + 3.10, abs=0.01)
    assert main(["costs"]) == 0
    shown = capsys.readouterr().out
    assert "endpoint" in shown
    assert "<0.01" in shown
    assert "theirs" not in shown


def test_a_role_that_jobs_elsewhere_use_loses_the_rights_of_this_region_alone() -> None:
    make_role("wrn-training", ours=True)
    iam = client("iam")
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for name in ("wrn-training-eu-west-1", "wrn-training-eu-west-1-0123abcd", "wrn-training-us-east-2-89abcdef"):
        iam.put_role_policy(RoleName="wrn-training", PolicyName=name, PolicyDocument=document)
    assert main(["teardown", "--yes"]) == 0
    left = iam.list_role_policies(RoleName="wrn-training")["PolicyNames"]
    assert left == ["p", "wrn-training-us-east-2-89abcdef"]
    assert main(["teardown", "--yes", "--region", "us-east-2"]) == 0
    assert iam.list_roles()["Roles"] == []


def test_a_region_that_is_no_longer_used_leaves_no_rights(capsys: pytest.CaptureFixture[str]) -> None:
    """A role has room for a few policies: those of a region go, though the role stays for a bucket elsewhere."""
    make_bucket("wrn-123456789012-us-west-2", ours=True, region="us-west-2")
    make_role("wrn-training", ours=True)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for name in ("wrn-training-eu-west-1", "wrn-training-eu-west-1-0123abcd", "wrn-training-us-west-2"):
        client("iam").put_role_policy(RoleName="wrn-training", PolicyName=name, PolicyDocument=document)
    assert main(["teardown", "--yes"]) == 0
    told = capsys.readouterr().err
    assert "wrn-training stays: wrn also has wrn-123456789012-us-west-2 in other regions" in told
    assert "removed rights of role wrn-training" in told
    assert client("iam").list_role_policies(RoleName="wrn-training")["PolicyNames"] == ["p", "wrn-training-us-west-2"]


def test_a_question_shows_what_it_is_about(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make_role("wrn-training", ours=True)
    monkeypatch.setattr("wrn.cli.aws_flags.at_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["teardown", "--json"]) == 0
    told = capsys.readouterr()
    assert "wrn-training" in told.err.partition("Remove all of this")[0]
    assert json.loads(told.out)["removed"] == []


def test_a_running_job_behind_hundreds_of_others_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from wrn.aws.jobs import job as jobs

    for number in range(3):
        make_job(f"newer-{number}", "theirs", ours=False)
    make_job("wrn-a", "theirs")  # listed last: moto lists the oldest first
    sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a"].training_job_status = "InProgress"
    monkeypatch.setattr(jobs, "NEWEST", 2)
    names = [entry["TrainingJobName"] for entry in jobs.summaries(Session(region=REGION))]
    assert "wrn-a" in names
    assert len(names) == 3
