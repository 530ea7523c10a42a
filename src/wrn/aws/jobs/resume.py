"""Resuming a job from its checkpoints in a new job: the same request under another name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from wrn.aws.account.errors import Denied, NotThere
from wrn.aws.account.names import USER_TAG
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import PRICE_VARIABLE
from wrn.aws.jobs.job import Job, describe, owner_guard, split_uri, summaries
from wrn.aws.jobs.options import LOCAL_STORAGE, default_wait, family
from wrn.errors import AwsError

SAME = (
    "AlgorithmSpecification",
    "RoleArn",
    "HyperParameters",
    "InputDataConfig",
    "OutputDataConfig",
    "CheckpointConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "Environment",
    "RetryStrategy",
)
"""The members of DescribeTrainingJob's answer that CreateTrainingJob takes. CheckpointConfig stays unchanged: the new
job finds the checkpoints of the old one, which the role may read and write like its own."""


def resume_request(
    job: Job,
    tags: Iterable[dict[str, str]],
    name: str,
    *,
    instance_type: str = "",
    max_runtime: int = 0,
    user: str = "",
) -> dict[str, Any]:
    """The body of CreateTrainingJob for a job that resumes where `job` ended.

    instance_type, max_runtime (seconds): override those of the old job. user: who starts it. Raises AwsError if there
    is nothing to resume.
    """
    if not job.is_over:
        raise AwsError(f"{job.name} is still running; `wrn logs -f {job.name}` follows it")
    if job.status == "Completed":
        raise AwsError(f"{job.name} has completed, nothing is left to do; `wrn fetch {job.name}` fetches its model")
    if not job.checkpoints:
        raise AwsError(f"{job.name} kept no checkpoints in S3; start over with `wrn deploy`")
    request = {key: job.answer[key] for key in SAME if job.answer.get(key) not in (None, {}, [])}
    request["TrainingJobName"] = name
    # Tags that begin with aws: are reserved by AWS; the name of the job changes.
    own = {"wrn-job": name, "wrn-resumes": job.name, USER_TAG: user}
    kept = [tag for tag in tags if not tag["Key"].startswith("aws:") and tag["Key"] not in own]
    request["Tags"] = [*kept, *({"Key": key, "Value": value} for key, value in own.items() if value)]
    if instance_type:
        machines = {**request["ResourceConfig"], "InstanceType": instance_type}
        # Local storage takes no key; other disks are encrypted with the key of the results.
        machines.pop("VolumeKmsKeyId", None)
        key = (request.get("OutputDataConfig") or {}).get("KmsKeyId")
        if key and family(instance_type) not in LOCAL_STORAGE:
            machines["VolumeKmsKeyId"] = key
        request["ResourceConfig"] = machines
    if instance_type not in ("", job.instance_type) and PRICE_VARIABLE in request.get("Environment", {}):
        # That is the price of the old instance type.
        request["Environment"] = {k: v for k, v in request["Environment"].items() if k != PRICE_VARIABLE}
        if not request["Environment"]:
            del request["Environment"]
    if max_runtime:
        limits = {**request.get("StoppingCondition", {}), "MaxRuntimeInSeconds": max_runtime}
        if "MaxWaitTimeInSeconds" in limits:
            limits["MaxWaitTimeInSeconds"] = max(limits["MaxWaitTimeInSeconds"], default_wait(max_runtime))
        request["StoppingCondition"] = limits
    return request


def next_name(name: str, taken: Sequence[str]) -> str:
    """`job-r2` after `job`, `job-r3` after `job-r2`: the first free one, at most 63 characters."""
    stem = re.sub(r"-r\d+$", "", name)
    number = 2
    while True:
        end = f"-r{number}"
        candidate = stem[: 63 - len(end)].rstrip("-") + end
        if candidate not in taken:
            return candidate
        number += 1


def free_name(session: Session, name: str) -> str:
    """The next name that no job of the account has."""
    return next_name(name, [entry["TrainingJobName"] for entry in summaries(session)])


def check_bucket(session: Session, job: Job) -> None:
    """Raises AwsError if wrn's bucket with the job's code and checkpoints is gone: anyone can then take its name."""
    bucket, _ = split_uri(job.checkpoints)
    guard = owner_guard(job, bucket)
    if not guard:
        return
    start_over = "start over with `wrn deploy`"
    try:
        session.call("s3", "HeadBucket", {"Bucket": bucket, **guard})
    except NotThere:
        raise NotThere(
            f"{bucket}, with the code and the checkpoints of {job.name}, no longer exists; {start_over}"
        ) from None
    except Denied:
        raise Denied(
            f"{bucket}, which held the code and the checkpoints of {job.name}, now belongs to another account, or "
            f"denies access; {start_over}, or ask the account's administrator for s3:ListBucket there"
        ) from None


def refuse_a_second(session: Session, job: Job) -> None:
    """Raises AwsError if another job uses the same checkpoints: they would overwrite each other's."""
    for entry in summaries(session):
        if entry["TrainingJobStatus"] in ("InProgress", "Stopping"):
            other = describe(session, entry["TrainingJobName"])
            if other.name != job.name and other.checkpoints == job.checkpoints and not other.is_over:
                raise AwsError(
                    f"{other.name} has already resumed from these checkpoints; `wrn logs -f {other.name}` follows it"
                )


def tags_of(session: Session, job: Job) -> list[dict[str, str]]:
    return list(session.pages("sagemaker", "ListTags", "Tags", {"ResourceArn": job.arn}))
