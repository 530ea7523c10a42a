"""Which rights a call needs, as IAM policies name them: mostly the operation's own name."""

from __future__ import annotations

from standin.wire import Call

_S3 = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteObjects": "DeleteObject",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
}

_BUDGETS = {"CreateBudget": "ModifyBudget", "UpdateBudget": "ModifyBudget", "DeleteBudget": "ModifyBudget"}

_PREFIXES = {"service-quotas": "servicequotas", "resourcegroupstaggingapi": "tag", "tagging": "tag"}

FREE = ("sts:GetCallerIdentity",)
"""What needs no right."""


def actions_of(call: Call) -> tuple[str, ...]:
    """All rights of this call."""
    name = str(call)
    if name in FREE:
        return ()
    if call.service == "s3":
        return (f"s3:{_S3.get(call.operation, call.operation)}",)
    if call.service == "budgets":
        return (f"budgets:{_BUDGETS.get(call.operation, 'ViewBudget')}",)
    if call.service in _PREFIXES:
        return (f"{_PREFIXES[call.service]}:{call.operation}",)
    rights = [name]
    if name == "sagemaker:CreateTrainingJob":
        rights.append("iam:PassRole")
        if call.request.get("Tags"):
            rights.append("sagemaker:AddTags")
    if name == "iam:CreateRole" and "Tags.member.1.Key" in call.request:
        rights.append("iam:TagRole")
    return tuple(rights)
