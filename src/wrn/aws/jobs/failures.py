"""Why a job failed, from the FailureReason that SageMaker gives: what it means, what to do, and how to go on.

The patterns follow texts of SageMaker as people report them; what matches none gets the advice to read the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wrn.aws.account.errors import NoCapacity
from wrn.aws.catalog.instances import CATALOGUE, Instance
from wrn.aws.catalog.prices import bundled_prices
from wrn.aws.jobs.job import Job
from wrn.errors import AwsError

Again = Literal["resume", "deploy", "log"]
"""How to go on: the same request from the checkpoints, a new request, or first the log."""


@dataclass(frozen=True)
class Advice:
    """cause and fix are for people, kind is for programs. instance_type: the one to resume on; empty: the same."""

    kind: str
    cause: str
    fix: str
    again: Again
    instance_type: str = ""


@dataclass(frozen=True)
class _Rule:
    """Words in braces are facts of the job. larger: picks an instance type, without which the job fails again."""

    kind: str
    pattern: str
    cause: str
    fix: str
    again: Again = "deploy"
    larger: Callable[[Instance, Instance], bool] | None = None


def _has_more_memory(new: Instance, old: Instance) -> bool:
    return new.ram_gib > old.ram_gib and new.gpu.memory_gib >= old.gpu.memory_gib


def _has_more_gpu_memory(new: Instance, old: Instance) -> bool:
    return new.gpu.memory_gib > old.gpu.memory_gib


_DENIED = r"(?:Access ?Denied|Forbidden|\b403\b)"
_S3 = r"(?:download|ListObjects|GetObject|HeadObject|\bS3\b|s3:)"

_RULES = (
    _Rule(
        "capacity",
        r"CapacityError|Insufficient ?Capacity|ran out of capacity|Unable to provision requested ML compute",
        "AWS has no {instance} available at the moment",
        "wait, or resume on another --instance-type; wrn deploy --fallback names others in advance",
        "resume",
    ),
    _Rule(
        "quota",
        r"ResourceLimitExceeded|account-level service limit|service quota",
        "the account's quota allows no more {instance}",
        "ask for more under Service Quotas in the console, or resume on another --instance-type",
        "resume",
    ),
    _Rule(
        "role",
        r"sts:AssumeRole|assume (?:the )?role|trust relationship",
        "SageMaker cannot assume {role}: it does not exist by this ARN, or does not trust SageMaker",
        "check the ARN with its path, and let sagemaker.amazonaws.com assume the role",
    ),
    _Rule(
        "image",
        r"CannotPull|ImagePull|pull (?:the )?(?:algorithm |training )?(?:container|image)|manifest .{0,200}not found"
        r"|image not found",
        "the image could not be pulled: it is not there, or {role} may not read it",
        "check --image-uri, its region, and the role's permissions ecr:BatchGetImage and ecr:GetDownloadUrlForLayer",
    ),
    _Rule(
        "container",
        r"CannotStartContainer|CreateContainerError|OCI runtime|exec format error|exit ?code:? ?\"?12[67]\b",
        "the container did not start: the image has no bash or python, or does not suit {instance}",
        "use AWS's image (leave out --image-uri), or one built for linux/amd64 and the instance's driver",
    ),
    _Rule(
        "region",
        r"PermanentRedirect|BucketRegionError|Moved Permanently|\(301\)|status code: 301"
        r"|must be addressed using the specified endpoint|must be in the same region",
        "a bucket is in another region{elsewhere}, and a job reads and writes only in its own, {region}",
        "give the bucket's region as --region, or copy the data to a bucket in {region}",
    ),
    _Rule(
        "network",
        r"route table|S3 VPC endpoint|execute request to S3|connect timeout|(?:download|upload).{0,200}timed out",
        "the job could not reach S3 from its subnet",
        "give the subnet a gateway endpoint for S3, and let its security group and network ACL send to port 443",
        "resume",
    ),
    _Rule(
        "shared memory",
        r"shared memory|/dev/shm|bus error|SIGBUS|exit ?code:? ?\"?135\b",
        "the processes that load data had too little shared memory",
        "deploy with fewer --num-workers",
    ),
    _Rule(
        "disk",
        r"insufficient disk space|no space left|disk quota exceeded|ENOSPC",
        "the disk of {instance} was full",
        "give a larger --volume-gb, or a type with more local storage",
    ),
    _Rule(
        "key",
        rf"kms[:. ].{{0,200}}{_DENIED}|{_DENIED}.{{0,200}}kms|not authorized to perform: kms",
        "{role} may not use the KMS key of the bucket or the disk",
        "allow it kms:Decrypt, kms:GenerateDataKey and kms:CreateGrant on that key, in its policy or the key's",
        "resume",
    ),
    _Rule(
        "output",
        rf"upload.{{0,300}}{_DENIED}",
        "{role} may not write to the bucket of the results",
        "allow it s3:PutObject there; the checkpoints, if they could be written, hold what was trained",
        "resume",
    ),
    _Rule(
        "data",
        rf"{_S3}.{{0,400}}{_DENIED}",
        "{role} may not read the data or the code in S3",
        "allow it s3:GetObject and s3:ListBucket on that bucket (another account's bucket must allow it, too)",
        "resume",
    ),
    _Rule(
        "missing",
        r"No S3 objects found|NoSuchKey|NoSuchBucket|(?:download|HeadObject).{0,400}\b404\b",
        "the data or the code is not there, or {role} may not list that bucket",
        "check --data-uri with aws s3 ls, and the role's s3:ListBucket; wrn deploy sends the code again",
    ),
    _Rule(
        "gpu memory",
        r"CUDA(?: error:)? out of memory|TrainingError: out of memory|\bOutOfMemoryError|_STATUS_ALLOC_FAILED",
        "the memory of the GPU was too small for the images of one pass",
        "deploy with a lower --micro-batch, or resume on a GPU with more memory",
        "deploy",
        _has_more_gpu_memory,
    ),
    _Rule(
        "memory",
        r"exit ?code:? ?\"?(?:137|-9)\b|instance type with more memory|out of memory|Cannot allocate memory|SIGKILL"
        r"|\bMemoryError",
        "the instance ran out of memory, or the process was killed for not ending in time",
        "resume on an instance with more memory, or deploy with fewer --num-workers",
        "deploy",
        _has_more_memory,
    ),
    _Rule(
        "gpu fault",
        r"uncorrectable|\bECC\b|\bXid\b|fallen off the bus|NVLink|unspecified launch failure",
        "a GPU of the machine was faulty",
        "resume: the job gets another machine",
        "resume",
    ),
    _Rule(
        "driver",
        r"driver version is insufficient|no kernel image is available|forward compatibility|cannot use this machine's"
        r"|exit ?code:? ?\"?132\b",
        "the image does not suit the hardware or the driver of {instance}",
        "leave out --image-uri, or choose another version or instance type; wrn plan shows which go together",
    ),
    _Rule(
        "process",
        r"LostProcess|\bNCCL|collective operation timeout|Connection (?:closed|reset) by peer",
        "a process or host of the job was lost, or did not answer the others",
        "resume from the checkpoints; if it happens again, the log of the lost host says why",
        "resume",
    ),
    _Rule(
        "not finite",
        r"not finite|\bNaN\b",
        "the training diverged",
        "deploy with a lower --lr, a longer --warmup-epochs, or --gradient-clip 1; resuming would diverge again",
    ),
    _Rule(
        "packages",
        r"pip could not install|No matching distribution|Could not find a version",
        "a package could not be installed in the container",
        "the log says which; without a way to the package index, --network-isolation sends the packages along",
    ),
    _Rule(
        "message",
        r"\b(?:Config|Data|Checkpoint|Model|Training|Aws)Error: ",
        "the run cannot go on as it was asked to",
        "change what its message names",
    ),
    _Rule(
        "aws",
        r"InternalServerError|internal error|ServiceUnavailable",
        "an error of AWS's own, not of the training",
        "resume; if it happens again, give the job's ARN to AWS's support",
        "resume",
    ),
    _Rule(
        "interrupted",
        r"exit ?code:? ?\"?(?:3|130|143)\b",
        "the run was stopped before its end",
        "resume from its last checkpoint",
        "resume",
    ),
    _Rule(
        "crash",
        r"exit ?code:? ?\"?(?:134|139|-6|-11)\b|Segmentation fault|SIGSEGV|SIGABRT",
        "the process crashed in compiled code",
        "read the end of the log, then resume; if it crashes again, choose another image version",
        "resume",
    ),
    _Rule(
        "program",
        r"AlgorithmError|exit ?code",
        "the training program ended with an error",
        "read the end of the log; resuming would repeat the error",
        "log",
    ),
)

_ELSEWHERE = re.compile(r"is in(?: this region:?| the)? '?([a-z]{2,4}(?:-[a-z]+)+-\d)\b")


def advise(reason: str, *, instance_type: str = "", role: str = "", region: str = "") -> Advice:
    """What a FailureReason means for a job with this instance type, role (name or ARN) and region."""
    said = " ".join(reason.split())
    elsewhere = _ELSEWHERE.search(said)
    facts = {
        "instance": instance_type or "such instance",
        "role": f"the role {role}" if role else "the job's role",
        "region": region or "that of the job",
        "elsewhere": f" ({elsewhere[1]})" if elsewhere else "",
    }
    for rule in _RULES:
        if not re.search(rule.pattern, said, re.IGNORECASE):
            continue
        larger = _larger(instance_type, rule.larger) if rule.larger else ""
        again: Again = "resume" if larger else rule.again
        return Advice(rule.kind, rule.cause.format(**facts), rule.fix.format(**facts), again, larger)
    cause = "SageMaker's reason is not one that wrn knows" if said else "SageMaker gave no reason"
    return Advice("unknown", cause, "read the end of the log", "log")


def _larger(instance_type: str, suits: Callable[[Instance, Instance], bool]) -> str:
    """The cheapest type with at least as many GPUs that suits; empty if none is known."""
    old, prices = CATALOGUE.get(instance_type), bundled_prices()
    if old is None:
        return ""
    found = [
        new
        for new in CATALOGUE.values()
        if new.name in prices and not new.remark and new.gpus >= old.gpus and suits(new, old)
    ]
    return min(found, key=lambda new: prices[new.name].usd_per_hour).name if found else ""


def advice_for(job: Job) -> Advice | None:
    """None for a job that did not fail."""
    if job.status != "Failed":
        return None
    role = str(job.answer.get("RoleArn") or "")
    return advise(job.failure, instance_type=job.instance_type, role=role, region=job.region)


def failed(job: Job) -> AwsError:
    """The exception for a failed job: its reason, then what that means and what to do."""
    advice = advice_for(job) or advise(job.failure)
    said = " ".join(job.failure.split()) or "SageMaker gave no reason"
    kind = NoCapacity if advice.kind == "capacity" else AwsError
    return kind(f"{job.name}: failed: {said}\n{advice.cause}; {advice.fix}")
