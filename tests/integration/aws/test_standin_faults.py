"""The stand-in for AWS: errors on request, logging, and what is left to moto."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from aws_account import (
    BUCKET,
    ROOT,
    client,
    create,
    refused,
    shell_job,
)
from standin import StandIn

ASKED = {
    "s3": lambda: client("s3").list_buckets(),
    "iam": lambda: client("iam").list_roles(),
    "sagemaker": lambda: client("sagemaker").list_training_jobs(),
    "logs": lambda: client("logs").describe_log_groups(),
    "cloudwatch": lambda: client("cloudwatch").describe_alarms(),
    "budgets": lambda: client("budgets").describe_budgets(AccountId=StandIn.account),
}


@pytest.mark.parametrize("service", ASKED)
def test_faults_in_every_protocol(aws: StandIn, service: str) -> None:
    ask = ASKED[service]
    ask()
    aws.throttle(1)
    assert refused(ask)[0] in ("ThrottlingException", "Throttling", "SlowDown")
    aws.throttle(0)
    aws.expire_token()
    assert refused(ask)[0] in ("ExpiredTokenException", "ExpiredToken")
    aws.expire_token(False)
    (action,) = aws.actions()
    aws.deny(action)
    code, message = refused(ask)
    assert code in ("AccessDeniedException", "AccessDenied")
    assert f"is not authorized to perform: {action} on" in message
    aws.allow(action)
    ask()
    assert len(aws.calls) == 5


def test_every_third_call_is_throttled(aws: StandIn) -> None:
    aws.throttle(3)
    codes = []
    for _ in range(6):
        try:
            client("sagemaker").list_training_jobs()
            codes.append("")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert codes == ["", "", "ThrottlingException"] * 2
    patient = boto3.client("sagemaker", config=Config(retries={"mode": "adaptive", "total_max_attempts": 5}))
    for _ in range(3):
        patient.list_training_jobs()


def test_a_large_upload_while_calls_are_throttled(account: StandIn, tmp_path: Path) -> None:
    content = os.urandom(20_000_000)
    (tmp_path / "big").write_bytes(content)
    account.throttle(3)
    account.break_connection("s3:UploadPart", times=2)
    s3 = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 6}))
    s3.upload_file(str(tmp_path / "big"), BUCKET, "big")
    account.throttle(0)
    assert s3.get_object(Bucket=BUCKET, Key="big")["Body"].read() == content


def test_a_broken_connection(account: StandIn) -> None:
    account.break_connection("s3:PutObject")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="x", Body=b"1" * 100_000)
    assert [str(call) for call in account.calls][-2:] == ["s3:PutObject"] * 2


def test_what_was_called(account: StandIn, tmp_path: Path) -> None:
    account.faults.calls.clear()
    s3 = client("s3")
    s3.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": []})
    s3.list_objects_v2(Bucket=BUCKET)
    s3.head_bucket(Bucket=BUCKET)
    (tmp_path / "big").write_bytes(bytes(9_000_000))
    s3.upload_file(str(tmp_path / "big"), BUCKET, "big")
    s3.copy_object(Bucket=BUCKET, Key="two", CopySource=f"{BUCKET}/big")
    s3.download_file(BUCKET, "big", str(tmp_path / "back"))
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "two"}]})
    client("sts").get_caller_identity()
    create(shell_job("seen", "echo done"))
    names = [str(call) for call in account.calls]
    assert [name.partition(":")[2] for name in names[:4]] == [
        "PutPublicAccessBlock",
        "PutBucketTagging",
        "ListObjectsV2",
        "HeadBucket",
    ]
    assert {"s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload", "s3:CopyObject"} <= set(names)
    assert {"s3:HeadObject", "s3:GetObject", "s3:DeleteObjects", "sts:GetCallerIdentity"} <= set(names)
    assert account.actions() == {
        *("s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:ListBucket", "s3:PutObject", "s3:GetObject"),
        *("s3:DeleteObject", "sagemaker:CreateTrainingJob", "iam:PassRole"),
    }
    account.job("seen").join()
    assert {"s3:ListBucket", "s3:GetObject", "logs:PutLogEvents"} <= account.actions("platform")
    assert account.sent("CreateTrainingJob") == [shell_job("seen", "echo done")]


def test_the_rest_is_moto(aws: StandIn) -> None:
    client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    client("iam").attach_role_policy(RoleName="r", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    client("cloudwatch").put_metric_alarm(
        AlarmName="a",
        MetricName="m",
        Namespace="n",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    assert len(client("cloudwatch").describe_alarms()["MetricAlarms"]) == 1
    budget = {
        "BudgetName": "b",
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "5", "Unit": "USD"},
    }
    client("budgets").create_budget(AccountId=aws.account, Budget=budget)
    assert client("budgets").describe_budgets(AccountId=aws.account)["Budgets"][0]["BudgetName"] == "b"
    assert aws.actions() >= {"budgets:ModifyBudget", "budgets:ViewBudget", "cloudwatch:PutMetricAlarm"}


def test_what_nobody_implements_is_told_at_once(aws: StandIn) -> None:
    code, message = refused(client("sagemaker").list_hubs)
    assert (code, message) == ("NotImplemented", "sagemaker:ListHubs is in neither moto nor the stand-in")


def test_by_hand(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}"}
    command = [sys.executable, "-m", "standin", "--minutes", "1"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
        with urllib.request.urlopen(f"{line.strip().partition('=')[2]}/moto-api/data.json", timeout=10) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(20) == 0
