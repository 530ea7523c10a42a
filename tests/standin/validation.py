"""Requests checked against botocore's own description of the service, with the sentences that AWS answers.

Written apart from `wrn.aws.account.validate`, which has other sentences: what one of them overlooks, the other may
find.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session

from standin.wire import AwsFault


@functools.cache
def service_model(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


def check(service: str, operation: str, request: Mapping[str, Any]) -> None:
    """Raises AwsFault, as AWS answers a request of the wrong shape."""
    faults = list(_faults(service_model(service).operation_model(operation).input_shape, request, ""))
    if faults:
        many = "error" if len(faults) == 1 else "errors"
        raise AwsFault("ValidationException", f"{len(faults)} validation {many} detected: {'; '.join(faults)}")


def _faults(shape: Any, value: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    expected: dict[str, Any] = {
        "structure": dict,
        "map": dict,
        "list": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "long": int,
        "float": (int, float),
        "double": (int, float),
        "timestamp": (int, float),
    }
    if kind in expected and (not isinstance(value, expected[kind]) or (isinstance(value, bool) and kind != "boolean")):
        raise AwsFault("SerializationException", f"{path}: {value!r} cannot be converted to {kind}")
    if kind == "structure":
        for name in shape.required_members:
            if name not in value:
                yield _fault("null", _join(path, name), "Member must not be null")
        for name, entry in value.items():
            if name not in shape.members:
                raise AwsFault("SerializationException", f"{_join(path, name)}: no such member")
            yield from _faults(shape.members[name], entry, _join(path, name))
    elif kind == "list":
        yield from _size(shape, value, len(value), path)
        for number, entry in enumerate(value, start=1):
            yield from _faults(shape.member, entry, f"{path}.{number}.member")
    elif kind == "map":
        yield from _size(shape, value, len(value), path)
        for key, entry in value.items():
            yield from _faults(shape.key, key, f"{path}.{key}.key")
            yield from _faults(shape.value, entry, f"{path}.{key}.value")
    elif kind == "string":
        yield from _size(shape, value, len(value), path)
        if shape.enum and value not in shape.enum:
            yield _fault(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        pattern = shape.metadata.get("pattern")
        if pattern and not _matches(pattern, value):
            yield _fault(value, path, f"Member must satisfy regular expression pattern: {pattern}")
    elif kind in ("integer", "long", "float", "double"):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if least is not None and value < least:
            yield _fault(value, path, f"Member must have value greater than or equal to {least}")
        if most is not None and value > most:
            yield _fault(value, path, f"Member must have value less than or equal to {most}")


def _size(shape: Any, value: Any, size: int, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        yield _fault(value, path, f"Member must have length greater than or equal to {least}")
    if most is not None and size > most:
        yield _fault(value, path, f"Member must have length less than or equal to {most}")


def _join(path: str, name: str) -> str:
    word = name[0].lower() + name[1:]
    return f"{path}.{word}" if path else word


def _fault(value: Any, path: str, rule: str) -> str:
    shown = value if value == "null" else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {rule}"


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for Java's own syntax."""
    for java, python in {r"\p{L}": r"\w", r"\p{N}": r"\w", r"\p{Z}": r"\s"}.items():
        pattern = pattern.replace(java, python)
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.fullmatch(value) is not None


LONGEST_RUN = 28 * 86400


def check_training_job(request: Mapping[str, Any]) -> None:
    """What CreateTrainingJob refuses beyond the shapes, by its documentation."""
    times, machine = request["StoppingCondition"], request.get("ResourceConfig", {})
    spot, runtime = request.get("EnableManagedSpotTraining", False), times.get("MaxRuntimeInSeconds", 86400)
    wait, algorithm = times.get("MaxWaitTimeInSeconds"), request.get("AlgorithmSpecification", {})
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    tags = [tag["Key"] for tag in request.get("Tags", [])]
    rules = {
        "AlgorithmSpecification must have exactly one of TrainingImage and AlgorithmName.": (
            ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm)
        ),
        f"MaxRuntimeInSeconds must be at most {LONGEST_RUN}.": runtime > LONGEST_RUN,
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds "
        "when EnableManagedSpotTraining is set to true.": spot and (wait is None or wait < runtime),
        "MaxWaitTimeInSeconds must not be present when EnableManagedSpotTraining is set to false.": (
            not spot and wait is not None
        ),
        "KeepAlivePeriodInSeconds is not supported with EnableManagedSpotTraining.": (
            spot and bool(machine.get("KeepAlivePeriodInSeconds"))
        ),
        "InstanceType, InstanceCount and VolumeSizeInGB must be present in ResourceConfig.": (
            not {"InstanceType", "InstanceCount", "VolumeSizeInGB"} <= set(machine)
        ),
        "InstanceCount must be at least 1.": machine.get("InstanceCount") == 0,
        "VolumeSizeInGB must be at least 1.": machine.get("VolumeSizeInGB") == 0,
        "Duplicate channel names.": len(set(channels)) < len(channels),
        "Duplicate tag keys found. Please note that Tag keys are case insensitive.": (
            len({tag.lower() for tag in tags}) < len(tags)
        ),
        "Tag keys must not start with aws:.": any(tag.lower().startswith("aws:") for tag in tags),
    }
    for sentence, broken in rules.items():
        if broken:
            raise AwsFault("ValidationException", sentence)
