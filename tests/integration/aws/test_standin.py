"""The stand-in for AWS: jobs that really run, and what it reports about them afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")

from aws_account import (
    BUCKET,
    ROLE,
    WAITS,
    client,
    create,
    describe,
    keys,
    log_lines,
    refused,
    shell_job,
    steps,
)
from standin import StandIn
from wrn.aws.account.policies import trust_policy


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
    deadline = time.monotonic() + 40
    while not (keys("checkpoints/long/") and log_lines(account.job("long").streams[0])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert describe("long")["SecondaryStatus"] == "Training"
    assert refused(client("sagemaker").delete_training_job, TrainingJobName="long")[0] == "ValidationException"


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
    from wrn.aws.catalog.prices import live_prices

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
    deadline = time.monotonic() + 40
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
