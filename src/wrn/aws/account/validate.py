"""Validate a request against botocore's own service model, without credentials or network.

AWS reports one error at a time, after the upload; here all are reported before anything is sent.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from typing import Any

from wrn.aws.jobs.options import LONGEST_RUN
from wrn.errors import AwsError

FLAGS = {
    "TrainingJobName": "--name",
    "RoleArn": "--role-arn",
    "TrainingImage": "--image-uri",
    "InstanceType": "--instance-type",
    "InstanceCount": "--instance-count",
    "VolumeSizeInGB": "--volume-gb",
    "KeepAlivePeriodInSeconds": "--keep-warm",
    "MaxRuntimeInSeconds": "--max-runtime",
    "MaxWaitTimeInSeconds": "--max-wait",
    "VpcConfig": "--vpc-config",
    "KmsKeyId": "--kms-key",
    "VolumeKmsKeyId": "--kms-key",
    "Tags": "--tags",
    "InputDataConfig": "--data-uri",
}
"""The flag that sets each member."""

FORMS = {
    "TrainingJobName": "must be letters, digits and hyphens, at most 63 of them, with no hyphen at an end",
    "RoleArn": "must be a role's ARN, such as arn:aws:iam::111122223333:role/name",
    "TrainingImage": "must be the address of an image, without spaces and at most 255 characters long",
    "S3Uri": "must be an address such as s3://bucket/folder/",
    "LocationConstraint": "must be a region, such as eu-west-1",  # botocore's list lacks some, and AWS takes them
    "Subnets": "must be a subnet's id, such as subnet-0a1b2c3d",
    "SecurityGroupIds": "must be a security group's id, such as sg-0a1b2c3d",
    "Key": "must be 1 to 128 letters, digits, spaces or any of _ . : / = + - @",
    "Value": "must be at most 256 letters, digits, spaces or any of _ . : / = + - @",
}
"""The required form of a string in words, instead of the service model's regular expression and bounds."""

# Java's character classes, as parts of a Python character class.
CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\w", r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"}


def check_request(service: str, operation: str, request: dict[str, Any]) -> None:
    """Raises AwsError with one line per error in the body of `operation`."""
    shape = _service(service).operation_model(operation).input_shape
    faults = list(_faults(shape, request, operation))
    if operation == "CreateTrainingJob" and not faults:
        faults = list(_job_rules(request))
    if faults:
        raise AwsError("\n".join(faults))


@functools.cache
def _service(name: str) -> Any:
    try:
        import botocore.session
    except ImportError:
        raise AwsError("boto3 is not installed; install it with: pip install 'wrn-cifar[aws]'") from None
    return botocore.session.Session().get_service_model(name)


def _faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    """The errors in `value`, which should have this shape, and in everything inside it."""
    kind = shape.type_name
    if kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        if not isinstance(value, list):
            yield _fault(path, value, "must be a list")
            return
        yield from _bounds(shape, len(value), path, f"{len(value)} entries")
        for number, entry in enumerate(value):
            yield from _faults(shape.member, entry, f"{path}[{number}]")
    elif kind == "map":
        if not isinstance(value, dict):
            yield _fault(path, value, "must be a map")
            return
        yield from _bounds(shape, len(value), path, f"{len(value)} entries")
        for key, entry in value.items():
            yield from _faults(shape.key, key, f"{path} key")
            yield from _faults(shape.value, entry, f"{path}.{key}")
    elif kind == "string":
        yield from _string(shape, value, path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield _fault(path, value, "must be true or false")
    elif kind in ("integer", "long"):
        if isinstance(value, bool) or not isinstance(value, int):
            yield _fault(path, value, "must be a whole number")
        else:
            yield from _bounds(shape, value, path, str(value))


def _structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _fault(path, value, "must be a map")
        return
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name}: is missing{_flag(f'{path}.{name}')}"
    for name, entry in value.items():
        if name in shape.members:
            yield from _faults(shape.members[name], entry, f"{path}.{name}")
        else:
            yield f"{path}.{name}: is not a known member{_nearest(name, list(shape.members))}"


def _string(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _fault(path, value, "must be a string")
        return
    pattern = shape.metadata.get("pattern")
    if form := FORMS.get(_names(path)[-1]):
        if list(_bounds(shape, len(value), path, "")) or (pattern and not _matches(pattern, value)):
            yield _fault(path, value, form)
        return
    yield from _bounds(shape, len(value), path, f"{len(value)} characters")
    if shape.enum and value not in shape.enum:
        hint = _nearest(value, shape.enum) or "; if it is new, update boto3"
        yield _fault(path, value, f"is not one of {len(shape.enum)} known values{hint}")
    if pattern and not _matches(pattern, value):
        yield _fault(path, value, f"must match {pattern}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    for java, python in CLASSES.items():
        pattern = pattern.replace(java, python)
    try:
        return re.compile(pattern)
    except re.error:
        return None  # Java's syntax: left to AWS to check


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.fullmatch(value) is not None


def _bounds(shape: Any, size: int, path: str, shown: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield f"{path}: has {shown}, must be at least {least}{_flag(path)}"
    if most is not None and size > most:
        yield f"{path}: has {shown}, must be at most {most}{_flag(path)}"


def _job_rules(request: dict[str, Any]) -> Iterator[str]:
    """Documented rules beyond the shapes. The request already has the right shapes."""
    times, machine = request.get("StoppingCondition", {}), request.get("ResourceConfig", {})
    spot, runtime = request.get("EnableManagedSpotTraining", False), times.get("MaxRuntimeInSeconds", 86400)
    wait = times.get("MaxWaitTimeInSeconds")
    if runtime > LONGEST_RUN:
        yield f"MaxRuntimeInSeconds: {runtime} is above 28 days ({LONGEST_RUN} s); lower --max-runtime"
    if spot and (wait is None or wait < runtime):
        yield f"MaxWaitTimeInSeconds: must be at least MaxRuntimeInSeconds ({runtime}) with spot; raise --max-wait"
    if wait is not None and not spot:
        yield "MaxWaitTimeInSeconds: is only for spot instances; leave out --max-wait, or give --spot"
    if spot and machine.get("KeepAlivePeriodInSeconds"):
        yield "KeepAlivePeriodInSeconds: spot instances cannot be kept; leave out --keep-warm or --spot"
    if machine.get("InstanceCount") == 0:
        yield "InstanceCount: must be at least 1; set --instance-count"
    if "InstanceType" in machine and machine.get("VolumeSizeInGB") == 0:
        yield "VolumeSizeInGB: must be at least 1; set --volume-gb"
    names = [tag["Key"] for tag in request.get("Tags", [])]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"Tags: {name} is given twice; give it once with --tags"
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(channels)) < len(channels):
        yield f"InputDataConfig: a channel is given twice ({', '.join(channels)}); leave one out"


def _fault(path: str, value: Any, problem: str) -> str:
    text = repr(value)
    return f"{path}: {text if len(text) <= 80 else text[:77] + '...'} {problem}{_flag(path)}"


def _flag(path: str) -> str:
    """The flag that fixes it: that of the innermost member that has one."""
    return next((f"; set {FLAGS[name]}" for name in reversed(_names(path)) if name in FLAGS), "")


def _names(path: str) -> list[str]:
    """The names of the members along the path, without list indices."""
    return re.sub(r"\[\d+\]", "", path).split(".")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
