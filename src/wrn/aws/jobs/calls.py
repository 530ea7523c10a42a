"""Every request of a deployment in the order of sending: the bucket, the role, the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wrn.aws.account import policies as policy
from wrn.aws.account.names import OWNER_TAG
from wrn.aws.account.partitions import partition
from wrn.aws.account.validate import check_request
from wrn.aws.jobs.options import DeployOptions, bucket_name, policy_name
from wrn.aws.jobs.request import training_job
from wrn.config.schema import Config
from wrn.errors import AwsError
from wrn.strict_json import to_json

OWNER = [{"Key": OWNER_TAG[0], "Value": OWNER_TAG[1]}]


@dataclass(frozen=True)
class Call:
    """One request to AWS."""

    service: str
    operation: str
    request: dict[str, Any]


def calls_of(config: Config, base: Config, recipe: str, options: DeployOptions) -> list[Call]:
    """The calls of a deployment, validated. Raises AwsError listing all errors.

    A given bucket or role is used unchanged; only wrn's own are created.
    """
    calls = [Call("sagemaker", "CreateTrainingJob", training_job(config, base, recipe, options))]
    calls = [*bucket_calls(options), *([] if options.role_arn else role_calls(options)), *calls]
    faults = []
    for call in calls:
        try:
            check_request(call.service, call.operation, call.request)
        except AwsError as error:
            faults.append(str(error))
    if faults:
        raise AwsError("\n".join(dict.fromkeys(faults)))
    return calls


def bucket_calls(options: DeployOptions) -> list[Call]:
    """A private, encrypted bucket that only accepts TLS. No calls if the bucket is the user's own."""
    if options.bucket:
        return []
    name = {"Bucket": bucket_name(options)}
    create: dict[str, Any] = {**name, "ObjectOwnership": "BucketOwnerEnforced"}
    if options.region != "us-east-1":  # S3 refuses its first region as a constraint
        create["CreateBucketConfiguration"] = {"LocationConstraint": options.region}
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return [
        Call("s3", "CreateBucket", create),
        # First, as the tag marks it as wrn's. Not in CreateBucket: not all regions accept tags there.
        Call("s3", "PutBucketTagging", name | {"Tagging": {"TagSet": OWNER}}),
        Call("s3", "PutPublicAccessBlock", name | {"PublicAccessBlockConfiguration": dict.fromkeys(closed, True)}),
        Call(
            "s3", "PutBucketEncryption", name | {"ServerSideEncryptionConfiguration": policy.bucket_encryption(options)}
        ),
        Call("s3", "PutBucketPolicy", name | {"Policy": to_json(policy.bucket_policy(options))}),
        Call("s3", "PutBucketLifecycleConfiguration", name | {"LifecycleConfiguration": policy.bucket_lifecycle()}),
    ]


def role_calls(options: DeployOptions) -> list[Call]:
    """The role of training jobs, with the least privilege they need."""
    name = {"RoleName": options.role_name}
    trust = to_json(policy.trust_policy(options.account))
    rights = to_json(policy.role_policy(options))
    calls = [
        Call("iam", "CreateRole", {**name, "AssumeRolePolicyDocument": trust, "Tags": OWNER}),
        Call("iam", "PutRolePolicy", {**name, "PolicyName": policy_name(options), "PolicyDocument": rights}),
    ]
    if options.full_access:
        calls.append(Call("iam", "AttachRolePolicy", {**name, "PolicyArn": full_access_arn(options)}))
    return calls


def full_access_arn(options: DeployOptions) -> str:
    """AWS's own policy for --full-access."""
    return f"arn:{partition(options.region)}:iam::aws:policy/AmazonSageMakerFullAccess"
