"""What `wrn deploy` itself makes, `wrn teardown` removes: nothing that one learns to make may the other not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wrn.cli import main

if TYPE_CHECKING:
    from mocked_aws import Faults

REGION = "eu-west-1"


def test_two_kinds_of_deployments_with_everything(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind has rights and rules of its own, and one of them a bucket of the user's."""
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
    assert "carries our tag" not in capsys.readouterr().err
    assert events.list_rules()["Rules"] == []
    assert sns.list_topics()["Topics"] == sns.list_subscriptions()["Subscriptions"] == []
    assert iam.list_roles()["Roles"] == []
    assert cloudwatch.describe_alarms()["MetricAlarms"] == cloudwatch.list_dashboards()["DashboardEntries"] == []
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mine"]
    assert "Contents" not in s3.list_objects_v2(Bucket="mine")
    assert main(["teardown", "--region", REGION]) == 0, "nothing left: nothing to confirm"
