"""The permissions of `wrn costs` and `wrn teardown`: separate from those of deploying, as they delete."""

from __future__ import annotations

from collections.abc import Iterable

from wrn.aws.account.names import LOG_GROUP, PREFIX
from wrn.aws.account.partitions import partition
from wrn.aws.account.policies import Document, allow, document
from wrn.aws.jobs.options import DeployOptions, bucket_name
from wrn.aws.jobs.request import FOLDERS

LOOK = (
    "budgets:ListTagsForResource",
    "budgets:ViewBudget",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetDashboard",
    "cloudwatch:ListTagsForResource",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:ListTagsForResource",
    "events:ListRules",
    "events:ListTagsForResource",
    "events:ListTargetsByRule",
    "iam:ListRoleTags",
    "iam:ListRoles",
    "s3:GetBucketLocation",
    "s3:GetBucketTagging",
    "s3:ListAllMyBuckets",
    "sagemaker:DescribeEndpoint",
    "sagemaker:DescribeEndpointConfig",
    "sagemaker:DescribeTrainingJob",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListEndpoints",
    "sagemaker:ListHyperParameterTuningJobs",
    "sagemaker:ListModels",
    "sagemaker:ListTags",
    "sagemaker:ListTrainingJobs",
    "sns:ListTagsForResource",
    "sns:ListTopics",
    "tag:GetResources",
)
"""wrn's resources are found by their tag among all of the account, so these cannot be restricted further."""

SAGEMAKER = (
    "sagemaker:DeleteEndpoint",
    "sagemaker:DeleteEndpointConfig",
    "sagemaker:DeleteModel",
    "sagemaker:StopHyperParameterTuningJob",
    "sagemaker:StopTrainingJob",
    "sagemaker:UpdateTrainingJob",
)

RECORDS = ("sagemaker:DeleteTrainingJob",)

BUCKET = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
OBJECTS = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
ROLE = (
    "iam:ListRolePolicies",
    "iam:DeleteRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:DetachRolePolicy",
    "iam:DeleteRole",
)


def clearing_policy(places: Iterable[DeployOptions], *, records: bool = False) -> Document:
    """The permissions to see and remove everything created in these places, and job records if asked for."""
    all_of = list(places)
    options = all_of[0]
    arn = f"arn:{partition(options.region)}"
    here = [f"{region}:{options.account}" for region in dict.fromkeys(place.region for place in all_of)]
    # From the user's own bucket only what wrn put there is removed; the bucket stays.
    made = list(dict.fromkeys(f"{arn}:s3:::{bucket_name(place)}" for place in all_of if not place.bucket))
    given = list(dict.fromkeys(f"{arn}:s3:::{bucket_name(place)}" for place in all_of if place.bucket))
    objects = [f"{bucket}/*" for bucket in made] + [
        f"{bucket}/{PREFIX}/{folder}/*" for bucket in given for folder in FOLDERS
    ]
    tagged = {"StringEquals": {"aws:ResourceTag/created-by": "wrn"}}
    statements = [
        allow("Look", list(LOOK), ["*"]),
        allow(
            "LookAtLogs", ["logs:DescribeLogStreams"], [f"{arn}:logs:{place}:log-group:{LOG_GROUP}:*" for place in here]
        ),
        allow("LookIntoBuckets", list(BUCKET), made + given),
        allow(
            "EndJobsAndEndpoints",
            sorted([*SAGEMAKER, *RECORDS] if records else SAGEMAKER),
            [f"{arn}:sagemaker:{place}:*" for place in here],
            **tagged,
        ),
        allow("EmptyBuckets", list(OBJECTS), objects),
        allow(
            "DeleteLogs",
            ["logs:DeleteLogStream"],
            [f"{arn}:logs:{place}:log-group:{LOG_GROUP}:log-stream:*" for place in here],
        ),
        allow(
            "DeleteAlarms",
            ["cloudwatch:DeleteAlarms", "cloudwatch:DeleteDashboards"],
            [f"{arn}:cloudwatch:{place}:alarm:wrn*" for place in here]
            + [f"{arn}:cloudwatch::{options.account}:dashboard/wrn*"],
        ),
        allow(
            "DeleteNotices",
            ["events:RemoveTargets", "events:DeleteRule", "sns:DeleteTopic"],
            [f"{arn}:{kind}wrn*" for place in here for kind in (f"events:{place}:rule/", f"sns:{place}:")],
        ),
        allow("DeleteBudget", ["budgets:ModifyBudget"], [f"{arn}:budgets::{options.account}:budget/wrn*"]),
        allow("DeleteImages", ["ecr:DeleteRepository"], [f"{arn}:ecr:{place}:repository/wrn*" for place in here]),
    ]
    if made:
        statements.append(allow("DeleteBuckets", ["s3:DeleteBucket"], made))
    if not options.role_arn:
        # By its tag: `wrn deploy --role-name` can give it any name.
        statements.append(allow("DeleteRole", list(ROLE), [f"{arn}:iam::{options.account}:role/*"], **tagged))
    return document(*statements)
