"""Whether a policy allows the calls that were made, as far as the stand-in's log tells what they were about."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from standin.actions import actions_of
from standin.faults import ACCOUNT
from standin.wire import Call

Document = Mapping[str, Any]


def needs(calls: Iterable[Call]) -> Iterator[tuple[str, str | None, str | None]]:
    """(action, resource, prefix) of each call, none twice; None where the log does not tell."""
    seen = set()
    for call in calls:
        for action in actions_of(call):
            need = (action, _resource(call, action), _prefix(call))
            if need not in seen:
                seen.add(need)
                yield need


def missing(document: Document, calls: Iterable[Call]) -> list[str]:
    """What was called and is not allowed."""
    return [f"{need[0]} on {need[1]} {need[2] or ''}".strip() for need in needs(calls) if not _allows(document, need)]


def unused(document: Document, calls: Iterable[Call]) -> set[str]:
    """Actions that are allowed and were not called, and S3 folders that were not touched by an action, as
    `action folder`."""
    wanted = list(needs(calls))
    found = set()
    for statement in document["Statement"]:
        for action in statement["Action"]:
            used = [need for need in wanted if fnmatch.fnmatchcase(need[0], action)]
            if not used:
                found.add(action)
            elif action.startswith("s3:"):
                found |= {
                    f"{action} {place.partition('/')[2]}"
                    for place in statement["Resource"]
                    if not any(need[1] is None or fnmatch.fnmatchcase(need[1], place) for need in used)
                }
    return found


def _allows(document: Document, need: tuple[str, str | None, str | None]) -> bool:
    action, resource, prefix = need
    for statement in document["Statement"]:
        if not any(fnmatch.fnmatchcase(action, pattern) for pattern in statement["Action"]):
            continue
        if resource is not None and not any(fnmatch.fnmatchcase(resource, place) for place in statement["Resource"]):
            continue
        prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if prefixes and prefix is not None and not any(fnmatch.fnmatchcase(prefix, like) for like in prefixes):
            continue
        return True
    return False


def _resource(call: Call, action: str) -> str | None:
    request = call.request
    if call.service == "s3":
        path = str(request["path"]).strip("/")
        if call.operation == "DeleteObjects":
            return None  # the keys are in the body
        return f"arn:aws:s3:::{path}" if path else "*"
    if action == "iam:PassRole":
        return str(request["RoleArn"])
    if call.service == "iam" and "RoleName" in request:
        return f"arn:aws:iam::{ACCOUNT}:role/{request['RoleName']}"
    if call.service == "logs" and "logGroupName" in request:
        stream = f"log-stream:{request['logStreamName']}" if "logStreamName" in request else "*"
        return f"arn:aws:logs:{call.region}:{ACCOUNT}:log-group:{request['logGroupName']}:{stream}"
    if call.service == "sagemaker" and "TrainingJobName" in request:
        return f"arn:aws:sagemaker:{call.region}:{ACCOUNT}:training-job/{request['TrainingJobName'].lower()}"
    return None


def _prefix(call: Call) -> str | None:
    """Of a listing in S3."""
    if call.service != "s3" or call.operation not in ("ListObjectsV2", "ListObjectVersions"):
        return None
    return parse_qs(str(call.request.get("query", ""))).get("prefix", [""])[0]
