"""Training jobs in the account: describing, listing, starting and stopping them, and their checkpoints."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wrn.aws.account.bucket import covers
from wrn.aws.account.errors import Denied, NameInUse, NoAnswer, NotThere
from wrn.aws.account.names import OWNER_TAG, USER_TAG, own_bucket
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import PRICE_VARIABLE, SAME_PRICES, Price, bundled_prices, read_price
from wrn.errors import AwsError

NAME_PREFIX = "wrn-"
"""Prefix of the names that `wrn deploy` generates."""

RUNNING = ("InProgress", "Stopping")

NEWEST = 300
"""How many of the account's newest jobs are listed, besides all running ones."""


@dataclass(frozen=True)
class Job:
    """A training job as DescribeTrainingJob returns it. Times: seconds since 1970."""

    answer: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.answer["TrainingJobName"])

    @property
    def arn(self) -> str:
        return str(self.answer["TrainingJobArn"])

    @property
    def region(self) -> str:
        """Empty for a job that was not started."""
        return (str(self.answer.get("TrainingJobArn", "")).split(":") + [""] * 4)[3]

    @property
    def account(self) -> str:
        """Twelve digits; empty for a job that was not started."""
        return (str(self.answer.get("TrainingJobArn", "")).split(":") + [""] * 5)[4]

    @property
    def status(self) -> str:
        """InProgress, Stopping, Stopped, Completed or Failed."""
        return str(self.answer["TrainingJobStatus"])

    @property
    def secondary(self) -> str:
        """What it is doing: Starting, Training, Interrupted ..."""
        return str(self.answer.get("SecondaryStatus") or self.status)

    @property
    def is_over(self) -> bool:
        return self.status not in RUNNING

    @property
    def transitions(self) -> Sequence[Mapping[str, Any]]:
        return self.answer.get("SecondaryStatusTransitions") or ()

    @property
    def instance_type(self) -> str:
        return str((self.answer.get("ResourceConfig") or {}).get("InstanceType", ""))

    @property
    def instances(self) -> int:
        return int((self.answer.get("ResourceConfig") or {}).get("InstanceCount", 1))

    @property
    def spot(self) -> bool:
        return bool(self.answer.get("EnableManagedSpotTraining"))

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        return self.answer.get("HyperParameters") or {}

    @property
    def checkpoints(self) -> str:
        """s3://bucket/prefix, or empty."""
        return str((self.answer.get("CheckpointConfig") or {}).get("S3Uri", ""))

    @property
    def output(self) -> str:
        """s3://bucket/prefix of all results."""
        return str((self.answer.get("OutputDataConfig") or {}).get("S3OutputPath", ""))

    @property
    def model(self) -> str:
        """s3://bucket/key of model.tar.gz, or empty if there is none yet."""
        return str((self.answer.get("ModelArtifacts") or {}).get("S3ModelArtifacts", ""))

    @property
    def failure(self) -> str:
        return str(self.answer.get("FailureReason") or "")

    @property
    def max_runtime(self) -> int:
        """Seconds."""
        return int((self.answer.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds") or 86400)

    @property
    def keep_warm(self) -> int:
        """Seconds."""
        return int((self.answer.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds") or 0)

    @property
    def price(self) -> Price | None:
        """The price recorded when the job was started, that of its region; else the bundled one; None: unknown."""
        own = read_price(str((self.answer.get("Environment") or {}).get(PRICE_VARIABLE, "")))
        return own or bundled_prices().get(self.instance_type)

    @property
    def price_is_foreign(self) -> bool:
        """Whether only the US price is known, but the job runs elsewhere."""
        price = self.price
        if price is None or not self.region:
            return False
        return price.region in SAME_PRICES and self.region not in SAME_PRICES

    @property
    def created(self) -> float:
        return moment(self.answer.get("CreationTime")) or 0.0

    @property
    def ended(self) -> float | None:
        return moment(self.answer.get("TrainingEndTime"))

    @property
    def training_seconds(self) -> int | None:
        return self.answer.get("TrainingTimeInSeconds")

    @property
    def billable_seconds(self) -> int | None:
        """Of one instance; known once the job is over. With spot, less than the time it ran."""
        return self.answer.get("BillableTimeInSeconds") if self.is_over else None

    @property
    def has_warm_machines(self) -> bool:
        """Whether its instances are kept ready for the next job, and billed."""
        return (self.answer.get("WarmPoolStatus") or {}).get("Status") == "Available"

    @property
    def warm_seconds(self) -> int:
        """Billed per instance for being kept ready for the next job."""
        return int((self.answer.get("WarmPoolStatus") or {}).get("ResourceRetainedBillableTimeInSeconds") or 0)


def moment(value: Any) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else None


def describe(session: Session, name: str) -> Job:
    """The job of this name. Raises NotThere with similar names."""
    if not re.fullmatch(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}", name):
        raise NotThere(f"{name!r} is not a job name; `wrn jobs` lists them")
    try:
        return Job(session.call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": name}))
    except NotThere:
        pass
    known = [entry["TrainingJobName"] for entry in summaries(session)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [other for other in known if other.startswith(name) and other not in near][: 3 - len(near)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `wrn jobs` lists them, --region looks elsewhere"
    raise NotThere(f"there is no training job {name} in {session.region}{hint}")


def summaries(session: Session) -> list[dict[str, Any]]:
    """The newest jobs of the account, whoever started them, and all running ones; newest first."""
    request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}

    def listed(**more: str) -> Iterator[dict[str, Any]]:
        return session.pages("sagemaker", "ListTrainingJobs", "TrainingJobSummaries", {**request, **more})

    found = {entry["TrainingJobArn"]: entry for entry in itertools.islice(listed(), NEWEST)}
    if len(found) == NEWEST:  # a job that has run for a day may come after hundreds of others
        found = {entry["TrainingJobArn"]: entry for status in RUNNING for entry in listed(StatusEquals=status)} | found
    return sorted(found.values(), key=lambda entry: entry["CreationTime"], reverse=True)


def our_jobs(session: Session) -> list[dict[str, Any]]:
    """Summaries of the jobs that wrn started, by tag or by name; newest first."""
    tagged = tagged_arns(session, "sagemaker:training-job")
    ours = []
    for entry in summaries(session):
        by_name = entry["TrainingJobName"].startswith(NAME_PREFIX)
        # Without access to the tag index, each job has to be asked.
        by_tag = is_ours(session, entry["TrainingJobArn"]) if not (by_name or tagged) else False
        if by_name or by_tag or entry["TrainingJobArn"] in tagged:
            ours.append(entry)
    return ours


def tagged_arns(session: Session, kind: str) -> set[str]:
    """What `indexed_arns` returns; empty if that cannot be read."""
    try:
        return indexed_arns(session, kind)
    except (Denied, NoAnswer):
        return set()


def indexed_arns(session: Session, kind: str) -> set[str]:
    """ARNs with wrn's tag, by the account's tag index, which lags by some seconds. Raises Denied or NoAnswer."""
    request = {"TagFilters": [{"Key": OWNER_TAG[0], "Values": [OWNER_TAG[1]]}], "ResourceTypeFilters": [kind]}
    found = session.pages("resourcegroupstaggingapi", "GetResources", "ResourceTagMappingList", request)
    return {entry["ResourceARN"] for entry in found}


def is_ours(session: Session, arn: str) -> bool:
    """Whether a SageMaker resource has wrn's tag."""
    try:
        return has_our_tag(session.pages("sagemaker", "ListTags", "Tags", {"ResourceArn": arn}))
    except NotThere:
        return False


def started_by(session: Session, job: Job) -> str:
    """Who started a job, by its tag; empty if it has none."""
    try:
        tags = list(session.pages("sagemaker", "ListTags", "Tags", {"ResourceArn": job.arn}))
    except NotThere:
        return ""
    except (Denied, NoAnswer):
        return "somebody whose name cannot be read"
    return next((str(tag["Value"]) for tag in tags if tag["Key"] == USER_TAG), "")


def has_our_tag(tags: Any) -> bool:
    return any((tag["Key"], tag["Value"]) == OWNER_TAG for tag in tags)


def start(session: Session, request: dict[str, Any]) -> None:
    """Send a body of CreateTrainingJob. Raises NameInUse if the name belongs to another job.

    After NoAnswer, as after Ctrl-C, the job may be running; after any other error it is not.
    """
    name, before = request["TrainingJobName"], len(session.sent)
    try:
        session.call("sagemaker", "CreateTrainingJob", request)
    except NameInUse:
        # A request that got no answer is retried, and the first may have arrived after all.
        repeated = session.sent[before:].count(("sagemaker", "CreateTrainingJob")) > 1
        if repeated and _is_this(session, request):
            return
        raise NameInUse(
            f"name: a job {name} exists in {session.region} already; give another --name, or see it with: "
            f"wrn status {name}"
        ) from None


def _is_this(session: Session, request: dict[str, Any]) -> bool:
    """Whether the job of this name is the requested one. Raises NoAnswer if that cannot be determined."""
    try:
        job = session.call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": request["TrainingJobName"]})
    except AwsError as error:
        raise NoAnswer(f"{error}") from None
    same = ("RoleArn", "HyperParameters", "ResourceConfig", "InputDataConfig")
    return all(covers(job.get(member, {}), request.get(member, {})) for member in same)


def stop(session: Session, job: Job) -> bool:
    """Ask SageMaker to stop a job: it saves and ends within minutes. False if it is over or stopping already."""
    if job.status != "InProgress":
        return False
    try:
        session.call("sagemaker", "StopTrainingJob", {"TrainingJobName": job.name})
    except NoAnswer:
        raise
    except AwsError:
        if describe(session, job.name).is_over:
            return False  # it ended just now, and AWS refuses to stop it
        raise
    return True


def release(session: Session, job: Job) -> bool:
    """Release the instances that are kept warm after a job. False if there are none."""
    if not job.has_warm_machines:
        return False
    request = {"TrainingJobName": job.name, "ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
    session.call("sagemaker", "UpdateTrainingJob", request)
    return True


def checkpoint_objects(session: Session, job: Job) -> list[dict[str, Any]]:
    """The objects under the job's checkpoint prefix, newest first; each with Key, Size and LastModified."""
    bucket, prefix = split_uri(job.checkpoints)
    folder = f"{prefix.rstrip('/')}/"
    found = session.pages("s3", "ListObjectsV2", "Contents", {"Bucket": bucket, "Prefix": folder})
    return sorted(found, key=lambda entry: entry["LastModified"], reverse=True)


def owner_guard(job: Job, bucket: str) -> dict[str, str]:
    """For requests on a bucket of the job: makes S3 refuse if wrn's own bucket now belongs to someone else."""
    ours = bool(job.account) and bucket == own_bucket(job.account, job.region)
    return {"ExpectedBucketOwner": job.account} if ours else {}


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key. Raises AwsError for anything but an s3:// address."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise AwsError(f"{uri!r} is not an S3 address; it must be s3://bucket/...")
    return bucket, key
