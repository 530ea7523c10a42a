"""`wrn teardown` removes everything that `wrn deploy` creates, whatever it learns to create."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from moto.sagemaker.models import sagemaker_backends

from fake_account import ACCOUNT, BUCKET, REGION, make_bucket, make_job
from wrn.aws.account.session import Session
from wrn.aws.resources.inventory import Inventory
from wrn.aws.resources.resource import Resource
from wrn.cli import main
from wrn.cli import teardown as command
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults


def test_a_job_of_somebody_else_is_not_stopped(
    faults: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever shares the account: the credentials of these tests are those of the user moto."""
    make_bucket(BUCKET, ours=True)
    for name, user in (("wrn-old", ""), ("wrn-a", "anna"), ("wrn-own", "moto")):
        make_job(name, user=user)
        sagemaker_backends[ACCOUNT][REGION].training_jobs[name].training_job_status = "InProgress"
    assert main(["teardown", "--yes", "--region", REGION]) == 2
    told = capsys.readouterr().err
    assert told.endswith(
        "wrn teardown: wrn-a is running and was started by anna; wrn-old is running and does not say who started it "
        "(it has no tag wrn-user); wait until it ends, or give --everyones to remove everything\n"
    )
    assert ", started by moto" in told
    assert not {"StopTrainingJob", "DeleteBucket", "DeleteObjects"} & {*faults.seen}
    assert main(["teardown", "--dry-run", "--region", REGION]) == 0
    for name in ("wrn-a", "wrn-old"):
        sagemaker_backends[ACCOUNT][REGION].training_jobs[name].training_job_status = "Completed"
    monkeypatch.setattr("wrn.cli.teardown.converge", lambda *_, **__: Inventory())
    assert main(["teardown", "--yes", "--region", REGION]) == 0, "one's own"


def test_a_job_that_somebody_starts_meanwhile(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Inventory([Resource("training job", "wrn-b", data={"user": "anna"})])
    monkeypatch.setattr(command, "take_inventory", lambda *_, **__: started)
    with pytest.raises(AwsError, match="wrn-b is running and was started by anna"):
        command.converge(Session(region=REGION), Inventory(), [], sleep=lambda seconds: None)


def test_everyones(faults: Faults, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_job("wrn-a", user="anna")
    sagemaker_backends[ACCOUNT][REGION].training_jobs["wrn-a"].training_job_status = "InProgress"
    monkeypatch.setattr("wrn.cli.aws_flags.at_terminal", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["teardown", "--everyones", "--region", REGION]) == 0
    assert "wrn-a (of anna) is running and will be stopped." in capsys.readouterr().err


def test_two_kinds_of_deployments_with_everything(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind has its own permissions and rules, and one of them uses the user's own bucket."""
    import boto3

    iam, events, sns, s3, cloudwatch = (
        boto3.client(service, REGION) for service in ("iam", "events", "sns", "s3", "cloudwatch")
    )
    monkeypatch.chdir(tmp_path)
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    flags = ["deploy", "--yes", "--region", REGION, "--dataset", "synthetic", "--alarms", "--notify", "me@example.com"]
    assert main([*flags, "--name", "one"]) == 0
    assert main([*flags, "--name", "two", "--bucket", "mine"]) == 0
    anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    attached = iam.create_policy(PolicyName="other", PolicyDocument=json.dumps(anything))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="wrn-training", PolicyArn=attached)
    assert len(iam.list_role_policies(RoleName="wrn-training")["PolicyNames"]) == 2
    assert len(events.list_rules(NamePrefix="wrn-job")["Rules"]) == 4

    assert main(["teardown", "--yes", "--region", REGION]) == 0
    assert "has wrn's tag" not in capsys.readouterr().err
    assert events.list_rules()["Rules"] == []
    assert sns.list_topics()["Topics"] == sns.list_subscriptions()["Subscriptions"] == []
    assert iam.list_roles()["Roles"] == []
    assert cloudwatch.describe_alarms()["MetricAlarms"] == cloudwatch.list_dashboards()["DashboardEntries"] == []
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mine"]
    assert "Contents" not in s3.list_objects_v2(Bucket="mine")
    assert main(["teardown", "--region", REGION]) == 0, "nothing left: nothing to confirm"
