"""The permissions needed to deploy: a policy for an administrator to attach, with only what is called."""

from __future__ import annotations

from collections.abc import Iterable

from wrn.aws.account.bucket import asks_for_key
from wrn.aws.account.names import LOG_GROUP, PREFIX, dashboard_name
from wrn.aws.account.notifications import BUDGET, FAILED, RULE, TOPIC, Notices, rule_name
from wrn.aws.account.partitions import partition
from wrn.aws.account.policies import Document, allow, document, key_arn
from wrn.aws.catalog.images import OWN_REPOSITORY
from wrn.aws.catalog.prices import SAME_PRICES
from wrn.aws.jobs.options import DeployOptions, bucket_name, possible_role_arns

RIGHTS: dict[str, tuple[str, ...]] = {
    "HeadBucket": ("s3:ListBucket",),
    "CreateBucket": ("s3:CreateBucket", "s3:PutBucketOwnershipControls"),
    "GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "GetBucketPolicy": ("s3:GetBucketPolicy",),
    "PutBucketPolicy": ("s3:PutBucketPolicy",),
    "GetBucketLifecycleConfiguration": ("s3:GetLifecycleConfiguration",),
    "PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "GetBucketTagging": ("s3:GetBucketTagging",),
    "PutBucketTagging": ("s3:PutBucketTagging",),
    "ListMultipartUploads": ("s3:ListBucketMultipartUploads",),
    "ListObjectsV2": ("s3:ListBucket",),
    "HeadObject": ("s3:GetObject",),
    "PutObject": ("s3:PutObject",),
    "CreateMultipartUpload": ("s3:PutObject",),
    "UploadPart": ("s3:PutObject",),
    "CompleteMultipartUpload": ("s3:PutObject",),
    "ListParts": ("s3:ListMultipartUploadParts",),
    "GetRole": ("iam:GetRole",),
    "CreateRole": ("iam:CreateRole", "iam:TagRole"),
    "UpdateAssumeRolePolicy": ("iam:UpdateAssumeRolePolicy",),
    "GetRolePolicy": ("iam:GetRolePolicy",),
    "PutRolePolicy": ("iam:PutRolePolicy",),
    "AttachRolePolicy": ("iam:AttachRolePolicy",),
    "DescribeImages": ("ecr:DescribeImages",),
    "ListServiceQuotas": ("servicequotas:ListServiceQuotas",),
    "CreateTrainingJob": ("sagemaker:CreateTrainingJob", "sagemaker:AddTags", "iam:PassRole"),
    "DescribeTrainingJob": ("sagemaker:DescribeTrainingJob",),
    "StopTrainingJob": ("sagemaker:StopTrainingJob",),
    "UpdateTrainingJob": ("sagemaker:UpdateTrainingJob",),
    "CreateTopic": ("sns:CreateTopic", "sns:TagResource"),
    "GetTopicAttributes": ("sns:GetTopicAttributes",),
    "SetTopicAttributes": ("sns:SetTopicAttributes",),
    "ListSubscriptionsByTopic": ("sns:ListSubscriptionsByTopic",),
    "Subscribe": ("sns:Subscribe",),
    "PutRule": ("events:PutRule", "events:TagResource"),
    "PutTargets": ("events:PutTargets",),
    "ListTargetsByRule": ("events:ListTargetsByRule",),
    "DescribeAlarms": ("cloudwatch:DescribeAlarms",),
    "PutMetricAlarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"),
    "GetDashboard": ("cloudwatch:GetDashboard",),
    "PutDashboard": ("cloudwatch:PutDashboard",),
    "CreateBudget": ("budgets:ModifyBudget", "budgets:TagResource"),
    "UpdateBudget": ("budgets:ModifyBudget",),
}
"""By operation. GetCallerIdentity needs no permission."""

SETTINGS = ("PublicAccessBlock", "BucketEncryption", "BucketPolicy", "BucketLifecycleConfiguration", "BucketTagging")
OBJECTS = ("HeadObject", "PutObject", "ListParts")


def deployer_policy(places: Iterable[DeployOptions], notices: Notices) -> Document:
    """The permissions to deploy to each of these places, and to follow, stop, resume and fetch the jobs. Those for
    teardown are separate: see `wrn.aws.resources.permissions`."""
    all_of = list(places)
    options = all_of[0]
    arn = f"arn:{partition(options.region)}"
    buckets = list(dict.fromkeys(f"{arn}:s3:::{bucket_name(place)}" for place in all_of))
    regions = list(dict.fromkeys(place.region for place in all_of))
    if options.bucket:
        more = ["GetBucketEncryption"] if asks_for_key(options) else []
    else:
        more = ["CreateBucket", *(f"{verb}{name}" for name in SETTINGS for verb in ("Get", "Put"))]
    folders = ("code", "data")
    roles = possible_role_arns(options)
    statements = [
        allow("Bucket", rights("HeadBucket", "ListObjectsV2", "ListMultipartUploads", *more), buckets),
        allow(
            "CodeAndData", rights(*OBJECTS), [f"{bucket}/{PREFIX}/{name}/*" for bucket in buckets for name in folders]
        ),
        allow(
            "Jobs",
            [
                right
                for right in rights("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob")
                if "iam:" not in right
            ],
            [f"{arn}:sagemaker:{region}:{options.account}:training-job/*" for region in regions],
        ),
        allow(
            "LendRole",
            ["iam:PassRole"],
            roles,
            StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"},
        ),
        allow("Quotas", rights("ListServiceQuotas"), ["*"]),
    ]
    if any(region not in SAME_PRICES for region in regions):  # where the bundled price is another region's
        statements.append(allow("Prices", ["pricing:GetProducts"], ["*"]))
    if not options.role_arn:
        operations = ("GetRole", "CreateRole", "UpdateAssumeRolePolicy", "GetRolePolicy", "PutRolePolicy")
        statements.append(allow("Role", rights(*operations), roles))
    if options.keep_warm:  # wrn stop releases instances that are kept warm
        jobs = [f"{arn}:sagemaker:{region}:{options.account}:training-job/*" for region in regions]
        statements.append(allow("WarmPools", rights("UpdateTrainingJob"), jobs))
    if options.image_tag:
        repositories = [f"{arn}:ecr:{region}:{options.account}:repository/{OWN_REPOSITORY}" for region in regions]
        statements.append(allow("FindImage", rights("DescribeImages"), repositories))
    if options.full_access:
        full = {"iam:PolicyARN": f"{arn}:iam::aws:policy/AmazonSageMakerFullAccess"}
        statements.append(allow("FullAccess", rights("AttachRolePolicy"), roles, ArnEquals=full))
    if options.kms_key:
        statements.append(allow("UseKey", ["kms:GenerateDataKey", "kms:Decrypt"], [key_arn(options)]))
    return document(*statements, *_following(options, buckets, regions), *_notices(options, regions, arn, notices))


def _following(options: DeployOptions, buckets: list[str], regions: list[str]) -> list[Document]:
    """For wrn logs, status, jobs, stop, resume and fetch."""
    arn = f"arn:{partition(options.region)}"
    places = [f"{region}:{options.account}" for region in regions]
    jobs = [f"{arn}:sagemaker:{place}:training-job/*" for place in places]
    group = [f"{arn}:logs:{place}:log-group:{LOG_GROUP}:*" for place in places]
    return [
        allow("ReadLog", ["logs:DescribeLogStreams", "logs:GetLogEvents"], group),
        allow("FetchResults", ["s3:GetObject"], [f"{bucket}/{PREFIX}/output/*" for bucket in buckets]),
        # These two cannot be restricted to some resources.
        allow("FindJobs", ["sagemaker:ListTrainingJobs", "tag:GetResources"], ["*"]),
        allow("TagsOfJobs", ["sagemaker:ListTags"], jobs),
    ]


def _notices(options: DeployOptions, regions: list[str], arn: str, notices: Notices) -> list[Document]:
    if not notices.target and not notices.alarms:
        return []
    places = [f"{region}:{options.account}" for region in regions]
    names = [
        rule_name(options, name) for name in ((RULE,) if notices.target else ()) + ((FAILED,) if notices.alarms else ())
    ]
    statements = [
        allow(
            "Rules",
            rights("PutRule", "ListTargetsByRule", "PutTargets"),
            [f"{arn}:events:{place}:rule/{name}" for place in places for name in names],
        )
    ]
    if not notices.target.startswith("arn:"):
        operations = ["CreateTopic", "GetTopicAttributes", "SetTopicAttributes"]
        operations += ["ListSubscriptionsByTopic", "Subscribe"] if notices.target else []
        statements.append(allow("Topic", rights(*operations), [f"{arn}:sns:{place}:{TOPIC}" for place in places]))
    if notices.alarms:
        alarm = [f"{arn}:cloudwatch:{place}:alarm:{rule_name(options, FAILED)}" for place in places]
        statements += [
            # This permission is checked on all alarms of a region, whatever name is requested.
            allow("SeeAlarms", rights("DescribeAlarms"), [f"{arn}:cloudwatch:{place}:alarm:*" for place in places]),
            allow("Alarm", rights("PutMetricAlarm"), alarm),
            allow(
                "Dashboard",
                rights("GetDashboard", "PutDashboard"),
                [f"{arn}:cloudwatch::{options.account}:dashboard/{dashboard_name(region)}" for region in regions],
            ),
            allow("Budget", rights("CreateBudget"), [f"{arn}:budgets::{options.account}:budget/{BUDGET}"]),
        ]
    return statements


def rights(*operations: str) -> list[str]:
    """The permissions that these operations need, sorted, without duplicates."""
    return sorted({right for operation in operations for right in RIGHTS[operation]})
