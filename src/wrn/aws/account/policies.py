"""The policies of the training role and the bucket, as pure functions.

The role can read the code and the data, write checkpoints and results, write logs, and pull one image: nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from wrn.aws.account.names import LOG_GROUP, PREFIX
from wrn.aws.account.partitions import partition, partition_of
from wrn.aws.jobs.options import DeployOptions, bucket_name, image_uri
from wrn.errors import AwsError

Document = dict[str, Any]

CHECKPOINT_DAYS = 30
"""Checkpoints of a finished job are worthless; those of an interrupted one matter until someone resumes it."""


def trust_policy(account: str) -> Document:
    """SageMaker may assume the role, on behalf of this account only."""
    return document(
        {
            "Sid": "SageMakerOfThisAccount",
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
    )


def role_policy(options: DeployOptions) -> Document:
    """The least that a training job with these options needs."""
    arn, region, account = f"arn:{partition(options.region)}", options.region, options.account
    bucket = f"{arn}:s3:::{bucket_name(options)}"
    read = [f"{bucket}/{PREFIX}/{folder}/*" for folder in ("code", "data", "checkpoints")]
    listed = {"StringLike": {"s3:prefix": [f"{PREFIX}/*"]}}
    # After its removal a stranger may create one with this name: the role must not run its code or write models to it.
    # A given bucket may well belong to another account.
    own: dict[str, Any] = {} if options.bucket else {"StringEquals": {"aws:ResourceAccount": account}}
    statements = [
        allow("ReadCodeAndData", ["s3:GetObject"], read, **own),
        allow(
            "WriteResults",
            ["s3:PutObject", "s3:AbortMultipartUpload"],
            [f"{bucket}/{PREFIX}/{folder}/*" for folder in ("checkpoints", "output")],
            **own,
        ),
        # The two newest checkpoints stay; older ones are removed from the bucket as from the disk.
        allow("PruneCheckpoints", ["s3:DeleteObject"], [f"{bucket}/{PREFIX}/checkpoints/*"], **own),
        allow("ListOurPart", ["s3:ListBucket"], [bucket], **own, **listed),
        allow("FindBucket", ["s3:GetBucketLocation"], [bucket], **own),
        allow(
            "Log",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [f"{arn}:logs:{region}:{account}:log-group:{LOG_GROUP}{end}" for end in ("", ":*")],
        ),
        allow(
            "PublishMetrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            StringEquals={"cloudwatch:namespace": [LOG_GROUP]},
        ),
    ]
    if options.data_uri:
        other, _, folder = options.data_uri.removeprefix("s3://").partition("/")
        folder = folder.rstrip("/")
        statements += [
            allow("ReadGivenData", ["s3:GetObject"], [f"{arn}:s3:::{other}/{folder + '/' if folder else ''}*"]),
            allow(
                "ListGivenData", ["s3:ListBucket"], [f"{arn}:s3:::{other}"], StringLike={"s3:prefix": [f"{folder}*"]}
            ),
        ]
    statements += _pull(image_uri(options), arn)
    if options.subnets:
        statements += _network(f"{arn}:ec2:{region}:{account}", options)
    if options.kms_key:
        key = key_arn(options)
        statements += [
            allow("UseKey", ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:DescribeKey"], [key]),
            allow("LendKeyToDisks", ["kms:CreateGrant"], [key], Bool={"kms:GrantIsForAWSResource": "true"}),
        ]
    return document(*statements)


def bucket_policy(options: DeployOptions) -> Document:
    """Only by TLS 1.2 or newer, and only from this account (and AWS's own services on its behalf)."""
    bucket = f"arn:{partition(options.region)}:s3:::{bucket_name(options)}"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [bucket, f"{bucket}/*"]}
    return document(
        {"Sid": "OnlyTls", **deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {"Sid": "OnlyTls12", **deny, "Condition": {"NumericLessThan": {"s3:TlsVersion": "1.2"}}},
        {
            "Sid": "OnlyThisAccount",
            **deny,
            "Condition": {
                "StringNotEquals": {"aws:PrincipalAccount": options.account},
                "Bool": {"aws:PrincipalIsAWSService": "false"},
            },
        },
    )


def bucket_encryption(options: DeployOptions) -> Document:
    """With the given key, else with S3's own."""
    default = (
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_arn(options)}
        if options.kms_key
        else {"SSEAlgorithm": "AES256"}
    )
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(options.kms_key)}]}


def bucket_lifecycle() -> Document:
    """Delete checkpoints after a month, unfinished uploads after a week."""
    return {
        "Rules": [
            {
                "ID": "old-checkpoints",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{PREFIX}/checkpoints/"},
                "Expiration": {"Days": CHECKPOINT_DAYS},
            },
            {
                "ID": "broken-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            },
        ]
    }


def key_arn(options: DeployOptions) -> str:
    """The key's ARN. Raises AwsError for an alias, which policies cannot name."""
    key = options.kms_key
    if key.startswith("arn:"):
        found = re.fullmatch(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[a-zA-Z0-9-]+", key)
    else:
        found = re.fullmatch(r"[a-zA-Z0-9-]+", key)
        key = f"arn:{partition(options.region)}:kms:{options.region}:{options.account}:key/{key}"
    if not found:
        raise AwsError(f"kms_key: {options.kms_key!r} is not a KMS key; give its id or its ARN, not an alias")
    return key


def _pull(image: str, arn: str) -> list[Document]:
    found = re.match(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.([a-z0-9.-]+)/([^:@]+)", image)
    if found is None or found[3] != partition_of(found[2]).dns_suffix:
        return []  # a public image: nothing to allow
    account, region, _, repository = found.groups()
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        allow("PullImage", pull, [f"{arn}:ecr:{region}:{account}:repository/{repository}"]),
        allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
    ]


def _network(ec2: str, options: DeployOptions) -> list[Document]:
    """A job in a VPC creates its network interfaces itself; describing them cannot be restricted to some."""
    places = [f"{ec2}:network-interface/*"]
    places += [f"{ec2}:subnet/{name}" for name in options.subnets]
    places += [f"{ec2}:security-group/{name}" for name in options.security_groups]
    described = ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
    made = ["ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"]
    return [
        allow("JoinNetwork", [*made, "ec2:DeleteNetworkInterfacePermission"], places),
        allow("SeeNetwork", [f"ec2:Describe{name}" for name in described], ["*"]),
    ]


def allow(sid: str, actions: list[str], resources: list[str], **condition: dict[str, Any]) -> Document:
    """A statement that allows these actions on these resources."""
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    return statement | ({"Condition": condition} if condition else {})


def document(*statements: Document) -> Document:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}
