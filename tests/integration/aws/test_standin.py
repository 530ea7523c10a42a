"""The stand-in for AWS itself: jobs that run, faults at a test's wish, and what it knows afterwards."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from data_files import write_pictures
from standin import StandIn
from wrn.aws.bundle import build_bundle
from wrn.aws.options import DeployOptions
from wrn.aws.policy import trust_policy
from wrn.aws.request import code_prefix, training_job
from wrn.config.layers import resolve

ROOT = Path(__file__).resolve().parents[3]
BUCKET, ROLE = "wrn-try", "wrn-training"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ONCE = Config(retries={"total_max_attempts": 1})


def client(service: str, **keys: Any) -> Any:
    return boto3.client(service, config=ONCE, **keys)


@pytest.fixture
def account(aws: StandIn) -> StandIn:
    """With a bucket, a role and one file of data."""
    client("s3").create_bucket(Bucket=BUCKET)
    trust = json.dumps(trust_policy(aws.account))
    client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)
    client("s3").put_object(Bucket=BUCKET, Key="data/a/b.txt", Body=b"hello\n")
    return aws


def shell_job(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A job that runs a line of shell."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data/"}
    spot = more.get("EnableManagedSpotTraining", False)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": f"arn:aws:iam::{StandIn.account}:role/{ROLE}",
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [script],
            "MetricDefinitions": [{"Name": "top1", "Regex": "top1=([0-9.]+)"}],
        },
        "InputDataConfig": [{"ChannelName": "training", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, **({"MaxWaitTimeInSeconds": 90} if spot else {})},
    }
    return request | more


def create(request: dict[str, Any]) -> None:
    client("sagemaker").create_training_job(**request)


def describe(name: str) -> dict[str, Any]:
    return dict(client("sagemaker").describe_training_job(TrainingJobName=name))


def steps(name: str) -> list[str]:
    return [entry["Status"] for entry in describe(name)["SecondaryStatusTransitions"]]


def keys(prefix: str) -> list[str]:
    found = client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def log_lines(stream: str) -> list[str]:
    events = client("logs").get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True)
    return [event["message"] for event in events["events"]]


def refused(action: Any, **request: Any) -> tuple[str, str]:
    """(code, message) of the error that must come."""
    with pytest.raises(ClientError) as caught:
        action(**request)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def wrn_job(name: str, options: dict[str, Any], **flags: Any) -> dict[str, Any]:
    """The real request for a tiny network on a few pictures, its code and data in the bucket."""
    bundle = build_bundle(ROOT)
    where = DeployOptions(
        name=name,
        account=StandIn.account,
        bucket=BUCKET,
        instance_type="ml.m5.large",
        code_name=bundle.name,
        data_uri=f"s3://{BUCKET}/pictures/",
        max_runtime=120,
        **options,
    )
    client("s3").put_object(Bucket=BUCKET, Key=code_prefix(where).split("/", 3)[3] + bundle.name, Body=bundle.content)
    small = {"dataset": "folder", "depth": 10, "widen_factor": 1, "batch_size": 4, "warmup_epochs": 0, "device": "cpu"}
    config = resolve(None, {**small, "epochs": 30, "progress": "plain", "dropout": 0.1, **flags}).config
    return training_job(config, resolve(None, {}).config, "standard", where)


def weights(uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("model.safetensors")
        assert member is not None
        return member.read()


def test_wrn_trains_and_an_interrupted_job_ends_with_the_same_weights(account: StandIn, tmp_path: Path) -> None:
    for path in write_pictures(tmp_path, each=6).rglob("*.png"):
        client("s3").upload_file(str(path), BUCKET, f"pictures/{path.relative_to(tmp_path).as_posix()}")
    create(wrn_job("interrupted", {"spot": True}))
    job = account.job("interrupted")
    job.wait_for_line(" epoch=2 ")
    account.interrupt("interrupted")
    assert keys("wrn/checkpoints/interrupted/"), "nothing was saved before the machine went"
    told = job.wait_for_line("stopped by SIGTERM after step ")
    step = told.partition("after step ")[2].partition(";")[0]
    job.join()
    assert job.status == "Completed", job.output
    assert f"resumed from step {step} " in job.output
    assert job.output.count("fresh start") == 1
    between = ["Starting", "Downloading", "Training", "Interrupted", "Restarting", "Downloading", "Training"]
    assert steps("interrupted") == [*between, "Uploading", "Completed"]
    seen = describe("interrupted")
    assert 0 < seen["BillableTimeInSeconds"] < seen["TrainingTimeInSeconds"]
    assert {entry["MetricName"]: entry["Value"] for entry in seen["FinalMetricDataList"]}["epoch"] == 30

    create(wrn_job("whole", {}))
    account.job("whole").join()
    whole = describe("whole")
    assert (whole["TrainingJobStatus"], whole["SecondaryStatus"]) == ("Completed", "Completed")
    assert whole["BillableTimeInSeconds"] == whole["TrainingTimeInSeconds"] > 0
    ends = [weights(answer["ModelArtifacts"]["S3ModelArtifacts"]) for answer in (seen, whole)]
    assert ends[0] == ends[1]
    streams = client("logs").describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix="interrupted/algo-1-")
    first, second = [stream["logStreamName"] for stream in streams["logStreams"]]
    assert log_lines(first) + log_lines(second) == [line or " " for line in job.output.split("\n")]
    points = client("cloudwatch").get_metric_statistics(
        Namespace=LOG_GROUP,
        MetricName="train_loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": "whole"}],
        StartTime=time.time() - 600,
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=["SampleCount"],
    )["Datapoints"]
    assert sum(point["SampleCount"] for point in points) == 30


@pytest.mark.skipif(shutil.which("aws") is None, reason="needs the aws command")
def test_with_the_aws_command(aws: StandIn, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        done = subprocess.run(["aws", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    (tmp_path / "trust.json").write_text(json.dumps(trust_policy(aws.account)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("hello\n")
    (tmp_path / "job.json").write_text(json.dumps(shell_job("by-hand", "cat /opt/ml/input/data/training/a.txt")))
    run("s3", "mb", f"s3://{BUCKET}")
    run("s3", "sync", str(tmp_path / "data"), f"s3://{BUCKET}/data/")
    document = f"file://{tmp_path}/trust.json"
    run("iam", "create-role", "--role-name", ROLE, "--assume-role-policy-document", document)
    made = run("sagemaker", "create-training-job", "--cli-input-json", f"file://{tmp_path}/job.json")
    assert made["TrainingJobArn"].endswith(":training-job/by-hand")
    aws.job("by-hand").join()
    seen = run("sagemaker", "describe-training-job", "--training-job-name", "by-hand")
    assert seen["TrainingJobStatus"] == "Completed", seen
    assert aws.job("by-hand").output == "hello"


def test_results_metrics_and_tags(account: StandIn) -> None:
    script = "cat /opt/ml/input/data/training/a/b.txt; echo top1=0.5; echo top1=0.75; echo; echo m > /opt/ml/model/m"
    create(shell_job("tidy", script, Tags=[{"Key": "a", "Value": "b"}]))
    account.job("tidy").join()
    seen = describe("tidy")
    assert steps("tidy") == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert seen["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/tidy/output/model.tar.gz"
    assert keys("out/") == ["out/tidy/output/model.tar.gz"]
    assert [(entry["MetricName"], entry["Value"]) for entry in seen["FinalMetricDataList"]] == [("top1", 0.75)]
    assert log_lines(account.job("tidy").streams[0]) == ["hello", "top1=0.5", "top1=0.75", " "]
    assert client("sagemaker").list_tags(ResourceArn=seen["TrainingJobArn"])["Tags"] == [{"Key": "a", "Value": "b"}]
    client("sagemaker").add_tags(ResourceArn=seen["TrainingJobArn"], Tags=[{"Key": "c", "Value": "d"}])
    assert len(client("sagemaker").list_tags(ResourceArn=seen["TrainingJobArn"])["Tags"]) == 2
    client("sagemaker").delete_training_job(TrainingJobName="tidy")
    assert refused(describe, name="tidy") == ("ValidationException", "Requested resource not found.")


def test_logs_and_checkpoints_come_while_the_job_runs(account: StandIn) -> None:
    create(
        shell_job("long", "echo begun; echo 1 > /opt/ml/checkpoints/one; echo 2 > /opt/ml/checkpoints/two; sleep 50")
    )
    account.job("long").wait_for_line("begun")
    deadline = time.monotonic() + 10
    while not (keys("checkpoints/long/") and log_lines(account.job("long").streams[0])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert describe("long")["SecondaryStatus"] == "Training"
    assert refused(client("sagemaker").delete_training_job, TrainingJobName="long")[0] == "ValidationException"


WAITS = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done"


def test_stopped(account: StandIn) -> None:
    create(shell_job("stopped", f"echo m > /opt/ml/model/m; {WAITS}"))
    account.job("stopped").wait_for_line("ready")
    client("sagemaker").stop_training_job(TrainingJobName="stopped")
    account.job("stopped").join()
    seen = describe("stopped")
    assert (seen["TrainingJobStatus"], seen["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "bye" in account.job("stopped").output
    assert steps("stopped")[2:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert keys("out/")
    code, message = refused(client("sagemaker").stop_training_job, TrainingJobName="stopped")
    assert (code, message) == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def test_failed_with_its_reason(account: StandIn) -> None:
    create(shell_job("failed", "echo 'DataError: no pictures' | tr -d '\\n' > /opt/ml/output/failure; exit 2"))
    account.job("failed").join()
    seen = describe("failed")
    assert (seen["TrainingJobStatus"], seen["SecondaryStatus"]) == ("Failed", "Failed")
    assert seen["FailureReason"] == "AlgorithmError: DataError: no pictures, exit code: 2"
    assert seen["SecondaryStatusTransitions"][-1]["StatusMessage"] == seen["FailureReason"]


def test_no_input(account: StandIn) -> None:
    client("s3").delete_object(Bucket=BUCKET, Key="data/a/b.txt")
    create(shell_job("empty", "true"))
    account.job("empty").join()
    assert describe("empty")["FailureReason"].startswith(
        f'ClientError: Data download failed:No S3 objects found under S3 URL "s3://{BUCKET}/data/"'
    )


def test_too_long(account: StandIn) -> None:
    create(shell_job("slow", WAITS, StoppingCondition={"MaxRuntimeInSeconds": 1}))
    account.job("slow").join()
    seen = describe("slow")
    assert (seen["TrainingJobStatus"], seen["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_refused_at_once(account: StandIn) -> None:
    sagemaker = client("sagemaker")
    good = shell_job("good", "true")
    create(good)
    code, message = refused(sagemaker.create_training_job, **good)
    assert (code, message[:31]) == ("ResourceInUse", "Training job names must be uniq")
    code, message = refused(
        sagemaker.create_training_job,
        **good
        | {
            "TrainingJobName": "-no",
            "ResourceConfig": {"InstanceType": "ml.nope", "InstanceCount": 1, "VolumeSizeInGB": 1},
        },
    )
    assert code == "ValidationException"
    assert message.startswith("2 validation errors detected: Value '-no' at 'trainingJobName' failed to satisfy")
    assert "Value 'ml.nope' at 'resourceConfig.instanceType' failed to satisfy constraint: Member must sat" in message
    code, message = refused(
        sagemaker.create_training_job, **good | {"TrainingJobName": "b", "EnableManagedSpotTraining": True}
    )
    assert message.startswith("Invalid MaxWaitTimeInSeconds.")
    code, message = refused(
        sagemaker.create_training_job,
        **good | {"TrainingJobName": "c", "RoleArn": f"arn:aws:iam::{account.account}:role/none"},
    )
    assert message.startswith("Could not assume role arn:aws:iam::123456789012:role/none. Please ensure")


def test_quotas(account: StandIn) -> None:
    account.quota("ml.m5.large", 0)
    code, message = refused(client("sagemaker").create_training_job, **shell_job("many", "true"))
    assert code == "ResourceLimitExceeded"
    assert message.startswith(
        "The account-level service limit 'ml.m5.large for training job usage' is 0 Instances, with current "
        "utilization of 0 Instances and a request delta of 1 Instances."
    )
    pages = client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {quota["QuotaName"]: quota for page in pages for quota in page["Quotas"]}
    wanted = quotas["ml.m5.large for training job usage"]
    assert wanted["Value"] == 0
    assert quotas["ml.g5.xlarge for spot training job usage"]["Value"] > 0
    one = client("service-quotas").get_service_quota(ServiceCode="sagemaker", QuotaCode=wanted["QuotaCode"])
    assert one["Quota"] == wanted


def test_prices(aws: StandIn) -> None:
    from wrn.aws.prices import live_prices

    assert live_prices("eu-west-1")["ml.g5.xlarge"].usd_per_hour == 1.408


def test_no_capacity(account: StandIn) -> None:
    account.refuse_capacity(2)
    for name in ("one", "two", "three"):
        create(shell_job(name, "true"))
        account.job(name).join()
    assert [describe(name)["TrainingJobStatus"] for name in ("one", "two", "three")] == [
        "Failed",
        "Failed",
        "Completed",
    ]
    assert describe("one")["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute")


def test_spot_that_waits_for_machines(account: StandIn) -> None:
    account.withhold_capacity()
    times = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    create(shell_job("granted", "true", EnableManagedSpotTraining=True))
    create(shell_job("never", "true", EnableManagedSpotTraining=True, StoppingCondition=times))
    account.job("never").join()
    assert describe("never")["SecondaryStatus"] == "MaxWaitTimeExceeded"
    seen = describe("granted")
    assert seen["SecondaryStatus"] == "Starting"
    assert seen["SecondaryStatusTransitions"][-1]["StatusMessage"].startswith("Insufficient capacity error from EC2")
    account.withhold_capacity(False)
    account.job("granted").join()
    assert describe("granted")["TrainingJobStatus"] == "Completed"


def test_a_spot_job_interrupted_without_a_warning(account: StandIn) -> None:
    here = "/opt/ml/checkpoints"
    script = f"echo $(ls {here}); echo 1 > {here}/one; [ -e {here}/two ] && exit; {WAITS}"
    create(shell_job("harsh", script, EnableManagedSpotTraining=True))
    account.job("harsh").wait_for_line("ready")
    deadline = time.monotonic() + 10
    while not keys("checkpoints/harsh/"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client("s3").put_object(Bucket=BUCKET, Key="checkpoints/harsh/two", Body=b"2")
    account.interrupt("harsh", grace=0)
    account.job("harsh").join()
    assert account.job("harsh").output.split("\n") == ["", "ready", "one two"]
    assert len(account.job("harsh").streams) == 2


def test_two_hosts(account: StandIn) -> None:
    machine = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1}
    create(shell_job("pair", "echo here; echo m > /opt/ml/model/m", ResourceConfig=machine))
    account.job("pair").join()
    assert account.job("pair").output == "here\nhere"
    assert [stream.rpartition("-")[0] for stream in account.job("pair").streams] == ["pair/algo-1", "pair/algo-2"]


def test_lists(account: StandIn) -> None:
    for number in range(5):
        create(shell_job(f"list-{number}", "exit 1" if number == 3 else "true"))
        account.job(f"list-{number}").join()
    sagemaker = client("sagemaker")

    def names(**request: Any) -> list[str]:
        return [job["TrainingJobName"] for job in sagemaker.list_training_jobs(**request)["TrainingJobSummaries"]]

    assert names() == [f"list-{number}" for number in (4, 3, 2, 1, 0)]
    assert names(SortBy="Name", SortOrder="Ascending", NameContains="T-2") == ["list-2"]
    assert names(StatusEquals="Failed") == ["list-3"]
    pages = sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 2})
    assert [len(page["TrainingJobSummaries"]) for page in pages] == [2, 2, 1]


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
    create(shell_job("seen", "true"))
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
    assert account.sent("CreateTrainingJob") == [shell_job("seen", "true")]


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
