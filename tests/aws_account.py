"""An account of the stand-in for AWS, and jobs for it, as tests use them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from standin import StandIn
from wrn.aws.account.policies import trust_policy
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.jobs.request import code_prefix, training_job
from wrn.aws.s3.code_archive import build_bundle
from wrn.config.layers import resolve

ROOT = Path(__file__).resolve().parents[1]
BUCKET, ROLE = "wrn-try", "wrn-training"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ONCE = Config(retries={"total_max_attempts": 1})
WAITS = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
"""A program that runs until it is told to end."""


def client(service: str, **keys: Any) -> Any:
    return boto3.client(service, config=ONCE, **keys)


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
    return keys_of(BUCKET, prefix)


def keys_of(bucket: str, prefix: str = "") -> list[str]:
    found = client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
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


def furnish(account: str) -> None:
    """A bucket, a role and one file of data."""
    client("s3").create_bucket(Bucket=BUCKET)
    client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust_policy(account)))
    client("s3").put_object(Bucket=BUCKET, Key="data/a/b.txt", Body=b"hello\n")
