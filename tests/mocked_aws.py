"""An account of moto's in this process, and faults of AWS's own making in front of it."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.loaders import JSONFileLoader
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from wrn.aws.account import session as session_module
from wrn.aws.catalog.prices import bundled_prices

ACCOUNT = "123456789012"
SECRET = "a-secret-that-must-never-be-shown"


class _Body:
    """What botocore reads an answer from."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, *_: Any, **__: Any) -> bytes:
        content, self.content = self.content, b""
        return content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


@dataclass
class Faults:
    """Answers given in moto's place, to the next so many requests of an operation.

    seen: the operation of every request, those that were refused included.
    quotas: those of SageMaker, which moto knows nothing of. jobs: what DescribeTrainingJob says, one after another.
    every: of so many requests, one is throttled.
    names: of the jobs that were created, by region: moto would take one twice. created: their requests.
    """

    planned: dict[str, list[BaseException | tuple[int, str, str] | dict[str, Any] | None]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    quotas: dict[str, float] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    every: int = 0
    names: set[tuple[str, str]] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, operation: str, code: str, message: str = "no", *, status: int = 400, times: int = 1) -> None:
        self.planned.setdefault(operation, []).extend([(status, code, message)] * times)

    def fail(self, operation: str, error: BaseException, *, after: int = 0, times: int = 1) -> None:
        """The connection breaks, once so many requests have gone through."""
        self.planned.setdefault(operation, []).extend([*[None] * after, *[error] * times])

    def say(self, operation: str, content: dict[str, Any]) -> None:
        """An answer that is no refusal, of a service that speaks JSON."""
        self.planned.setdefault(operation, []).append(content)

    def answer(self, request: Any, event_name: str) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.seen.append(operation)
        waiting = self.planned.get(operation, [])
        fault = waiting.pop(0) if waiting else None
        if fault is None and self.every and len(self.seen) % self.every == 0 and "monitoring" not in request.url:
            fault = (503, "SlowDown", "Please reduce your request rate.")
        if fault is None:
            return self._instead(request, operation)
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(fault, dict):
            return AWSResponse(request.url, 200, {}, _Body(json.dumps(fault).encode()))
        return refusal(request, *fault)

    def _instead(self, request: Any, operation: str) -> AWSResponse | None:
        """The answer to what moto cannot do, or None."""
        if operation == "ListServiceQuotas":
            found: Any = {"Quotas": [{"QuotaName": name, "Value": value} for name, value in self.quotas.items()]}
        elif operation == "DescribeTrainingJob" and self.jobs:
            found = self.jobs.pop(0)
        elif operation == "ListTagsForResource" and "budgets" in request.url:
            found = {"ResourceTags": [{"Key": "created-by", "Value": "wrn"}]}  # there are no others in these tests
        elif operation == "DeleteTrainingJob":
            return self._delete(request)
        elif operation in ("StopTrainingJob", "UpdateBudget"):
            found = {}
        elif operation == "CreateTrainingJob":
            body = json.loads(request.body)
            name = (request.url, body["TrainingJobName"])
            if name not in self.names:
                self.names.add(name)
                self.created.append(body)
                return None
            return refusal(request, 400, "ResourceInUse", "Training job names must be unique")
        else:
            return None
        return AWSResponse(request.url, 200, {}, _Body(json.dumps(found).encode()))

    def _delete(self, request: Any) -> AWSResponse:
        """The record of a job, as AWS's service model says: those alone that are over and keep no machines."""
        from moto.sagemaker.models import sagemaker_backends

        jobs = sagemaker_backends[ACCOUNT][request.url.split(".")[-3]].training_jobs
        name = json.loads(request.body)["TrainingJobName"]
        if name not in jobs:
            return refusal(request, 400, "ResourceNotFound", "Requested resource not found.")
        warm = getattr(jobs[name], "warm_pool_status", None) or {}
        if jobs[name].training_job_status in ("InProgress", "Stopping") or warm.get("Status") == "Available":
            return refusal(request, 400, "ResourceInUse", "Resource being accessed is in use.")
        del jobs[name]
        return AWSResponse(request.url, 200, {}, _Body(b"{}"))


def refusal(request: Any, status: int, code: str, message: str) -> AWSResponse:
    """In the form that the service speaks: S3, the older services, the newer ones. cloudwatch's (CBOR) is none."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if "s3" not in request.url:
        text = f"<ErrorResponse>{text}</ErrorResponse>"
        if b"x-www-form-urlencoded" not in bytes(request.headers.get("Content-Type", b"")):
            text = json.dumps({"__type": code, "message": message})
    content = b"" if request.method == "HEAD" else text.encode()
    return AWSResponse(request.url, status, {}, _Body(content))


_read = JSONFileLoader.load_file


@functools.cache
def _load_once(path: str) -> Any:
    return _read(JSONFileLoader(), path)


def _load_file(_: JSONFileLoader, path: str) -> Any:
    return _load_once(path)


@contextmanager
def mocked_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An account with nothing in it, whose faults can be planned."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    faults = Faults()
    moto, one_at_a_time = BotocoreStubber.__call__, threading.RLock()

    def before_moto(self: BotocoreStubber, event_name: str, request: Any, **more: Any) -> AWSResponse | None:
        with one_at_a_time:  # moto is not made for threads
            found = faults.answer(request, event_name)
            try:
                return found if found is not None else moto(self, event_name, request, **more)
            except KeyError:  # moto, of an upload that was completed in between
                return refusal(request, 404, "NoSuchUpload", "The specified upload does not exist.")

    monkeypatch.setattr(BotocoreStubber, "__call__", before_moto)
    monkeypatch.setattr("wrn.cli.deploy.live_prices", lambda region, **_: bundled_prices())
    # Reading the descriptions of services takes most of the time of making a client.
    monkeypatch.setattr(JSONFileLoader, "load_file", _load_file)
    # A repeat waits for seconds; here there is nothing to wait for.
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    monkeypatch.setattr(session_module, "ATTEMPTS", 3)
    monkeypatch.setattr(session_module, "RETRIES", "standard")
    with mock_aws():
        from moto.iam.access_control import PermissionResult
        from moto.s3.models import FakeBucket

        # moto takes a Deny under a condition for a Deny without one.
        monkeypatch.setattr(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)
        yield faults
