"""An account of moto's, with everything in it that a deployment makes, and things of others beside."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

import boto3

OWNER = [{"Key": "created-by", "Value": "wrn"}]
ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET = f"wrn-{ACCOUNT}-{REGION}"
TRUST = {"Version": "2012-10-17", "Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}}]}


def client(service: str, region: str = REGION) -> Any:
    return boto3.client(service, region)


def make_bucket(name: str, *, ours: bool, region: str = REGION, versioned: bool = False) -> None:
    s3 = client("s3", region)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    if ours:
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": OWNER})
    if versioned:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def make_job(name: str, bucket: str = BUCKET, *, ours: bool = True, data: str = "", user: str = "") -> None:
    """A finished one: moto knows no others. data: the address of what it is given, user: who started it."""
    source = {"S3DataType": "S3Prefix", "S3Uri": data, "S3DataDistributionType": "FullyReplicated"}
    channels = [{"ChannelName": "training", "DataSource": {"S3DataSource": source}}]
    client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "1.example/x", "TrainingInputMode": "File"},
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/wrn-training",
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/wrn/output"},
        CheckpointConfig={"S3Uri": f"s3://{bucket}/wrn/checkpoints/{name}", "LocalPath": "/opt/ml/checkpoints"},
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
        Tags=(OWNER if ours else []) + ([{"Key": "wrn-user", "Value": user}] if user else []),
        **({"InputDataConfig": channels} if data else {}),
    )


def make_role(name: str, *, ours: bool) -> None:
    iam = client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=OWNER if ours else [])
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))


def make_endpoint(name: str, *, ours: bool) -> None:
    sagemaker, tags = client("sagemaker"), OWNER if ours else []
    role = f"arn:aws:iam::{ACCOUNT}:role/x"
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer={"Image": "x"}, Tags=tags)
    variant = {"VariantName": "a", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.g4dn.xlarge"}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=tags)


def make_log(job: str, lines: list[str], moment: int, host: str = "algo-1-1") -> None:
    logs = client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName=f"{job}/{host}")
    events = [{"timestamp": moment + number, "message": line} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=f"{job}/{host}", logEvents=events)


def archive(members: dict[str, bytes] | list[tarfile.TarInfo]) -> bytes:
    """A .tar.gz of these files, or of these bare members."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for entry in members:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry, io.BytesIO(b"\0" * entry.size))
            else:
                assert isinstance(members, dict)
                member = tarfile.TarInfo(entry)
                member.size = len(members[entry])
                tar.addfile(member, io.BytesIO(members[entry]))
    return packed.getvalue()
