"""The options of a deployment, besides the training configuration, and the names derived from them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from wrn.aws.account.names import OWNER_TAG, ROLE_NAME, USER_TAG, own_bucket
from wrn.aws.account.partitions import partition
from wrn.aws.catalog.images import DEFAULT_TORCH, RELEASES, image_for, own_image, registry
from wrn.aws.catalog.prices import Price
from wrn.errors import AwsError
from wrn.text import duration

LOCAL_STORAGE = frozenset(
    (
        *("g4dn", "g5", "g6", "g6e", "g7", "g7e", "p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300"),
        *("p6e-gb200", "trn1", "trn1n", "trn2", "r5d"),
    )
)
"""Families with local storage: encrypted by the hardware, and CreateTrainingJob takes no key for it."""


HOUR, DAY = 3600, 86400
LONGEST_RUN = 28 * DAY
"""AWS stops every training job after this, by the documentation of StoppingCondition."""

LIMIT_FACTOR, SHORTEST_LIMIT, LONGEST_LIMIT = 6, 2 * HOUR, DAY
"""The default time limit: this many times the expected time, within these bounds in seconds. Nothing is lost at it, as
the job has saved and can be resumed, so it need not allow for everything; and what it costs at most means something."""

MARGIN = 1.5
"""A suggested time limit over the expected time, which is an estimate."""

STOP_SECONDS = 300
"""Estimate of what is billed beyond the time limit: 120 s to save, then the upload of the model."""


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """Where and how a job runs. Times in seconds, money in US dollars."""

    name: str
    """Name of the job, unique in account and region."""
    account: str
    user: str = ""
    """Who starts it, for its tag; empty: unknown."""
    region: str = "us-east-1"
    bucket: str = ""
    """Empty: `wrn-<account>-<region>`."""
    role_arn: str = ""
    """Empty: the role `role_name` of the account, which is created if missing."""
    role_name: str = ROLE_NAME
    full_access: bool = False
    """Also attach AWS's AmazonSageMakerFullAccess to the role."""
    image_uri: str = ""
    """Empty: AWS's image for the instance type and region."""
    image_tag: str = ""
    """Tag of wrn's own image in the account's registry, which takes precedence over `image_uri`; empty: not used."""
    code_name: str = "code.tar.gz"
    """File name of the code archive."""
    wheels_name: str = ""
    """Folder of the packages for a job that may have no network; empty: it downloads them itself."""
    data_uri: str = ""
    """Empty: data/<dataset>/<data_key>/ in the bucket."""
    data_key: str = ""
    """Derived from the content of the data; empty: the folder above it."""
    instance_type: str = "ml.g6e.xlarge"
    instance_count: int = 1
    volume_gb: int = 30
    """Disk size, for families without local storage."""
    spot: bool = False
    max_runtime: int = 0
    """0: not given, see `time_limit`."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Seconds that the job is expected to take, by instance type, as far as known."""
    max_wait: int = 0
    """With spot: limit on waiting and running together. 0: see `default_wait`."""
    max_cost: float = 0.0
    """Upper limit on the cost of the instances; 0: none. Needs price_per_hour."""
    price_per_hour: float = 0.0
    """Of one instance, on demand; 0: unknown."""
    own_price: Price | None = None
    """The same with its source, if it is the region's own or was given; None: price_per_hour is the bundled one."""
    prices: Mapping[tuple[str, str], Price] = field(default_factory=dict)
    """Prices of the fallbacks by region and instance type, if known and not the bundled ones."""
    keep_warm: int = 0
    """How long the instances are kept ready for the next job."""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str = ""
    network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How long a job may run and wait, in seconds, and what it costs at most (None: the price is unknown)."""

    runtime: int
    wait: int
    cost: float | None


def default_limit(expected: float) -> int:
    """The time limit in seconds, in whole minutes, of a job expected to take this many, or an unknown time (0)."""
    wanted = 60 * math.ceil(LIMIT_FACTOR * expected / 60) or LONGEST_LIMIT
    return min(max(wanted, SHORTEST_LIMIT), LONGEST_LIMIT)


def time_limit(options: DeployOptions) -> int:
    """Seconds, before --max-cost: as given, else by the expected time. It adapts to what else was given: to a
    --max-wait, and to a --max-cost, which is a limit itself."""
    if options.max_runtime:
        return options.max_runtime
    runtime = LONGEST_RUN if options.max_cost else default_limit(options.expected.get(options.instance_type, 0))
    return min(runtime, options.max_wait or runtime)


def holding_limit(expected: float) -> int:
    """A time limit in seconds, in whole minutes or hours, that a job expected to take this many will hardly reach."""
    unit = 60 if MARGIN * expected < 2 * HOUR else HOUR
    return min(LONGEST_RUN, unit * math.ceil(MARGIN * expected / unit))


def default_wait(runtime: int) -> int:
    """With spot: seconds of waiting and running together. At least a day of waiting, which is not billed."""
    return runtime + max(runtime, DAY)


def limits(options: DeployOptions) -> Limits:
    """The shorter of the time limit and what the money pays for. Raises AwsError if it pays for too little."""
    runtime = time_limit(options)
    per_second = _usd_per_second(options)
    beyond = STOP_SECONDS + options.keep_warm
    if options.max_cost:
        if not per_second:
            raise AwsError(
                f"max_cost: the price of {options.instance_type} is unknown; give --price-per-hour, "
                "or --max-runtime instead"
            )
        bought = int(options.max_cost / per_second) - beyond
        if bought < 60:
            raise AwsError(
                f"max_cost: ${options.max_cost:g} pays for less than a minute of {options.instance_count} x "
                f"{options.instance_type} after {beyond} s for stopping and staying warm; "
                f"give at least ${per_second * (beyond + 600):.2f}, which trains for 10 minutes"
            )
        runtime = min(runtime, bought)
    if options.max_wait and options.max_wait < runtime:
        raise AwsError(
            f"max_wait: {duration(options.max_wait)} covers waiting and running, but the job may run for "
            f"{duration(runtime)}; give at least that, or a lower --max-runtime"
        )
    wait = options.max_wait or default_wait(runtime)
    return Limits(runtime, wait if options.spot else 0, most_usd(options, runtime))


def most_usd(options: DeployOptions, runtime: int) -> float | None:
    """What the job costs at most with this time limit in seconds, on demand; None if the price is unknown."""
    per_second = _usd_per_second(options)
    return per_second * (runtime + STOP_SECONDS + options.keep_warm) if per_second else None


def _usd_per_second(options: DeployOptions) -> float:
    return options.price_per_hour * options.instance_count / HOUR


def training_minutes(options: DeployOptions) -> float:
    """The part of the limit left for training: up to 3 minutes go to starting, a twentieth to interruptions."""
    runtime = limits(options).runtime
    return round(max(runtime / 2, 0.95 * runtime - 180) / 60, 1)


def as_flag(seconds: int) -> str:
    """A duration as the flags take it: `90m`, `42h`, or in seconds."""
    for unit, name in ((HOUR, "h"), (60, "m")):
        if seconds % unit == 0:
            return f"{seconds // unit}{name}"
    return f"{seconds}"


def family(instance_type: str) -> str:
    """`g5` of `ml.g5.xlarge`."""
    return instance_type.removeprefix("ml.").partition(".")[0]


def bucket_name(options: DeployOptions) -> str:
    """The bucket of this deployment. Raises AwsError if S3 would refuse the name."""
    name = options.bucket.removeprefix("s3://").rstrip("/") or own_bucket(options.account, options.region)
    if not re.fullmatch(r"(?!xn--|\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", name):
        raise AwsError(
            f"bucket: {name!r} is not a bucket name; give 3 to 63 lower-case letters, digits, dots and hyphens, "
            "without a folder"
        )
    return name


def role_arn(options: DeployOptions) -> str:
    """The ARN that was given, else that of a role as wrn creates it. Another may have a path, which IAM knows."""
    return options.role_arn or f"arn:{partition(options.region)}:iam::{options.account}:role/{options.role_name}"


def possible_role_arns(options: DeployOptions) -> list[str]:
    """For policies: a role of the user's own that is given by name may have a path, which only IAM knows."""
    arn = role_arn(options)
    if options.role_arn or options.role_name == ROLE_NAME:
        return [arn]
    return [arn, arn.replace(":role/", ":role/*/")]


def policy_name(options: DeployOptions) -> str:
    """Name of the role's policy. Jobs with different needs share the role, so each kind has its own policy:
    another deployment must not take permissions away from a running job."""
    uri = re.sub(r"[:@][^/]*$", "", image_uri(options))  # the role may pull all images of a repository
    image = "" if uri == f"{registry(options.region)}/{RELEASES[DEFAULT_TORCH].repository}" else uri
    own = (options.bucket, options.data_uri, image, options.kms_key, options.subnets)
    name = f"{ROLE_NAME}-{options.region}"
    if any(own):
        name += f"-{hashlib.sha256(repr((own, options.security_groups)).encode()).hexdigest()[:8]}"
    return name


def image_uri(options: DeployOptions) -> str:
    """The requested image, else AWS's own. Raises AwsError if no image is known."""
    if options.image_tag:
        return own_image(options.account, options.region, options.image_tag)
    return image_for(options.instance_type, options.region, today=date.today(), override=options.image_uri).uri


def all_tags(options: DeployOptions) -> list[dict[str, str]]:
    """The user's tags and wrn's. Raises AwsError for names reserved by AWS or wrn."""
    ours = dict([OWNER_TAG, ("wrn-job", options.name), (USER_TAG, options.user)])
    for key in options.tags:
        if key in ours or key.lower().startswith("aws:"):
            raise AwsError(f"tags: {key} is reserved; give another name")
    if not options.user:
        del ours[USER_TAG]
    return [{"Key": key, "Value": value} for key, value in {**options.tags, **ours}.items()]


def job_name(recipe: str, moment: str) -> str:
    """`wrn-<recipe>-<moment>`, with characters that AWS does not allow replaced by hyphens."""
    stem = re.sub(r"[^a-zA-Z0-9]+", "-", f"wrn-{recipe}").strip("-")
    return f"{stem[: 62 - len(moment)].rstrip('-')}-{moment}"
