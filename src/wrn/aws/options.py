"""What a deployment may be told beside the training configuration, and the names that follow from it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from wrn.aws.images import DEFAULT_TORCH, RELEASES, image_for, own_image, registry
from wrn.aws.prices import Price
from wrn.errors import AwsError

LOCAL_STORAGE = frozenset(
    (
        *("g4dn", "g5", "g6", "g6e", "g7", "g7e", "p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"),
        *("p6e-gb200", "trn1", "trn1n", "trn2", "r5d"),
    )
)
"""Families whose disk is in the machine: encrypted by its hardware, and CreateTrainingJob takes no key for it."""

ROLE_NAME = "wrn-training"
OWNER_TAG = ("created-by", "wrn")
"""On everything that is made in the account: by it teardown finds what may go."""
USER_TAG = "wrn-user"
"""On jobs: who started them, so that nobody's teardown stops another's by mistake."""

HOUR, DAY = 3600, 86400
STOP_SECONDS = 300
"""What may be paid beyond the time limit, by our estimate: 120 s to save, then the upload of the model."""


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """Where and how a job runs. Times in seconds, money in US dollars."""

    name: str
    """Of the job, unique in account and region."""
    account: str
    user: str = ""
    """Who starts it, for its tag; empty: not known."""
    region: str = "us-east-1"
    bucket: str = ""
    """Empty: `wrn-<account>-<region>`."""
    role_arn: str = ""
    """Empty: the role `role_name` of the account, which is ours to make."""
    role_name: str = ROLE_NAME
    full_access: bool = False
    """Attach AWS's own AmazonSageMakerFullAccess to the role as well."""
    image_uri: str = ""
    """Empty: AWS's image for the instance type and region."""
    image_tag: str = ""
    """Of our own image in the account's registry, which goes before `image_uri`; empty: not that."""
    code_name: str = "code.tar.gz"
    """File name of the code archive."""
    wheels_name: str = ""
    """Folder of the packages that a job installs which may have no network; empty: it gets them itself."""
    data_uri: str = ""
    """Empty: data/<dataset>/<data_key>/ in the bucket."""
    data_key: str = ""
    """Made of the content of the data; empty: the folder above it."""
    instance_type: str = "ml.g6e.xlarge"
    instance_count: int = 1
    volume_gb: int = 30
    """Of disk, for families without one of their own."""
    spot: bool = False
    max_runtime: int = DAY
    max_wait: int = 0
    """With spot: for waiting and running together. 0: twice max_runtime."""
    max_cost: float = 0.0
    """Upper limit of what the instances may cost, 0: none. Needs price_per_hour."""
    price_per_hour: float = 0.0
    """Of one instance, on demand; 0: not known."""
    own_price: Price | None = None
    """The same with its source, where it is the region's own or was given; None: price_per_hour is the bundled one."""
    prices: Mapping[tuple[str, str], Price] = field(default_factory=dict)
    """Of other places to go to, by region and instance type, where theirs are known and are not the bundled ones."""
    keep_warm: int = 0
    """How long the instances stay ready for the next job."""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How long a job may run and wait, in seconds, and what it costs at most (None: the price is not known)."""

    runtime: int
    wait: int
    cost: float | None


def limits(options: DeployOptions) -> Limits:
    """The shorter of the time limit and what the money buys. Raises AwsError when the money buys too little."""
    runtime = options.max_runtime
    per_second = options.price_per_hour * options.instance_count / HOUR
    beyond = STOP_SECONDS + options.keep_warm
    if options.max_cost:
        if not per_second:
            raise AwsError(
                f"max_cost: the price of {options.instance_type} is not known; give --price-per-hour, "
                "or --max-runtime instead"
            )
        bought = int(options.max_cost / per_second) - beyond
        if bought < 60:
            raise AwsError(
                f"max_cost: ${options.max_cost:g} pays for less than a minute of {options.instance_count} x "
                f"{options.instance_type} after {beyond} s to stop and stay warm; "
                f"give at least ${per_second * (beyond + 600):.2f}, which trains for 10 minutes"
            )
        runtime = min(runtime, bought)
    if options.max_wait and options.max_wait < runtime:
        raise AwsError(
            f"max_wait: {span(options.max_wait)} is for waiting and running together, and the job may run for "
            f"{span(runtime)}; give at least that, or a lower --max-runtime"
        )
    wait = options.max_wait or 2 * runtime
    return Limits(runtime, wait if options.spot else 0, per_second * (runtime + beyond) if per_second else None)


def training_minutes(options: DeployOptions) -> float:
    """What is left of the limit for training: up to three minutes go to starting, a twentieth to interruptions."""
    runtime = limits(options).runtime
    return round(max(runtime / 2, 0.95 * runtime - 180) / 60, 1)


def span(seconds: float) -> str:
    """A length of time for people: `40 s`, `90 min`, `6.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / HOUR:.1f} h" if seconds >= 2 * HOUR else f"{seconds / 60:.0f} min"


def partition(region: str) -> str:
    """The first part of every ARN in this region."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def family(instance_type: str) -> str:
    """`g5` of `ml.g5.xlarge`."""
    return instance_type.removeprefix("ml.").partition(".")[0]


def own_bucket(account: str, region: str) -> str:
    """The bucket that is made where none is given. Once it is removed, anyone may take the name."""
    return f"wrn-{account}-{region}"


def bucket_name(options: DeployOptions) -> str:
    """The bucket of this deployment. Raises AwsError when S3 would not take the name."""
    name = options.bucket.removeprefix("s3://").rstrip("/") or own_bucket(options.account, options.region)
    if not re.fullmatch(r"(?!xn--|\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", name):
        raise AwsError(
            f"bucket: {name!r} is not a bucket name; give 3 to 63 lower-case letters, digits, dots and hyphens, "
            "without a folder"
        )
    return name


def role_arn(options: DeployOptions) -> str:
    return options.role_arn or f"arn:{partition(options.region)}:iam::{options.account}:role/{options.role_name}"


def policy_name(options: DeployOptions) -> str:
    """Of the role's rights. Jobs that need others run under the same role, so each kind has a policy of its own:
    a deployment elsewhere must not take the rights of a job that is running."""
    uri = re.sub(r"[:@][^/]*$", "", image_uri(options))  # the role may pull all images of a repository
    image = "" if uri == f"{registry(options.region)}/{RELEASES[DEFAULT_TORCH].repository}" else uri
    own = (options.bucket, options.data_uri, image, options.kms_key, options.subnets)
    name = f"{ROLE_NAME}-{options.region}"
    if any(own):
        name += f"-{hashlib.sha256(repr((own, options.security_groups)).encode()).hexdigest()[:8]}"
    return name


def policy_region(name: str) -> str:
    """The region of a policy that `policy_name` named; empty for other names."""
    found = re.fullmatch(rf"{ROLE_NAME}-([a-z]{{2,3}}(?:-[a-z]+)+-\d+)(?:-[0-9a-f]{{8}})?", name)
    return found[1] if found else ""


def dashboard_name(region: str) -> str:
    """Dashboards are the account's, not a region's."""
    return f"wrn-{region}"


def image_uri(options: DeployOptions) -> str:
    """The image that was asked for, else AWS's own. Raises AwsError where there is none that we know of."""
    if options.image_tag:
        return own_image(options.account, options.region, options.image_tag)
    return image_for(options.instance_type, options.region, today=date.today(), override=options.image_uri).uri


def all_tags(options: DeployOptions) -> list[dict[str, str]]:
    """The user's tags and ours. Raises AwsError for those that AWS or we keep to ourselves."""
    ours = dict([OWNER_TAG, ("wrn-job", options.name), (USER_TAG, options.user)])
    for key in options.tags:
        if key in ours or key.lower().startswith("aws:"):
            raise AwsError(f"tags: {key} is not yours to set; give another name")
    if not options.user:
        del ours[USER_TAG]
    return [{"Key": key, "Value": value} for key, value in {**options.tags, **ours}.items()]


def user_of(arn: str) -> str:
    """Whose credentials have this ARN, as the value of a tag: the last part, which is a user's name or a session's.

    A session that was given no name has that of its program and the time, ever another: then it is the role's.
    """
    *_, role, name = ["", *re.split("[:/]", arn)]
    if re.fullmatch(r"(?i)(?:botocore-session-|aws-cli-session-|aws-sdk-[a-z-]*)?\d{9,}", name):
        name = role
    return re.sub(r"[^\w.:/=+@ -]", "_", name)[:256]


def job_name(recipe: str, moment: str) -> str:
    """`wrn-<recipe>-<moment>`, with what AWS does not take in a name replaced by hyphens."""
    stem = re.sub(r"[^a-zA-Z0-9]+", "-", f"wrn-{recipe}").strip("-")
    return f"{stem[: 62 - len(moment)].rstrip('-')}-{moment}"
