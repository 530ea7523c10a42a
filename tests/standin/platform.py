"""What SageMaker does with the training role: fetch the input, keep checkpoints and results, write logs and metrics.

All of it goes through boto3 to the stand-in's own server, and so to moto's S3, IAM, CloudWatch and Logs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from standin.wire import PLATFORM, AwsFault

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
NAMESPACE = "/aws/sagemaker/TrainingJobs"

LARGEST_BATCH = 1000
"""Lines of one PutLogEvents; AWS takes 10,000."""


class Platform:
    """The services behind a training job, in one region."""

    def __init__(self, endpoint: str, region: str) -> None:
        self._endpoint, self._region = endpoint, region
        self._lock = threading.Lock()

    @functools.cache  # noqa: B019 - one object for each region, for as long as the server
    def _client(self, service: str) -> Any:
        with self._lock:
            return boto3.session.Session().client(
                service,
                region_name=self._region,
                endpoint_url=self._endpoint,
                aws_access_key_id="AKIAPLATFORM",
                aws_secret_access_key="none",
                config=Config(user_agent_extra=PLATFORM, s3={"addressing_style": "path"}, max_pool_connections=20),
            )

    def check_role(self, arn: str) -> None:
        """The role must be there, and SageMaker must be allowed to take it."""
        try:
            role = self._client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
            allowed = role["Arn"] == arn and "sagemaker.amazonaws.com" in json.dumps(role["AssumeRolePolicyDocument"])
        except ClientError:
            allowed = False
        if not allowed:
            raise AwsFault(
                "ValidationException",
                f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            )

    def check_bucket(self, uri: str) -> None:
        try:
            self._client("s3").head_bucket(Bucket=split(uri)[0])
        except ClientError:
            raise AwsFault("ValidationException", f"S3 bucket {split(uri)[0]} does not exist.") from None

    def download(self, uri: str, folder: Path) -> int:
        """All that begins with this address; how many files."""
        bucket, prefix = split(uri)
        found = 0
        for key in self._keys(bucket, prefix):
            name = key[len(prefix) :].lstrip("/") if prefix.endswith("/") or key != prefix else Path(key).name
            if key.endswith("/"):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
            found += 1
        return found

    def upload(self, path: Path, uri: str) -> None:
        bucket, key = split(uri)
        with path.open("rb") as stream:
            self._client("s3").put_object(Bucket=bucket, Key=key, Body=stream)

    def remove(self, uri: str) -> None:
        bucket, key = split(uri)
        self._client("s3").delete_object(Bucket=bucket, Key=key)

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        pages = self._client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def open_log(self, stream: str) -> None:
        client = self._client("logs")
        for make, names in ((client.create_log_group, {}), (client.create_log_stream, {"logStreamName": stream})):
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                make(logGroupName=LOG_GROUP, **names)

    def write_log(self, stream: str, lines: Iterable[tuple[float, str]]) -> None:
        """Lines with their times in seconds. CloudWatch takes no empty message, and an empty line is a blank there."""
        events = [{"timestamp": int(moment * 1000), "message": line or " "} for moment, line in lines]
        for first in range(0, len(events), LARGEST_BATCH):
            self._client("logs").put_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events[first : first + LARGEST_BATCH]
            )

    def put_metrics(self, job: str, points: list[dict[str, Any]]) -> None:
        """Points as FinalMetricDataList has them."""
        for first in range(0, len(points), 500):
            data = [
                {
                    "MetricName": point["MetricName"],
                    "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
                    "Timestamp": point["Timestamp"],
                    "Value": point["Value"],
                }
                for point in points[first : first + 500]
            ]
            self._client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=data)


class CheckpointSync:
    """Keeps a folder's copy in S3: what is new or changed goes up, what is gone goes from there too."""

    def __init__(self, platform: Platform, folder: Path, uri: str) -> None:
        self._platform, self._folder, self._uri = platform, folder, uri.rstrip("/")
        self._known = self._files()

    def restore(self) -> None:
        """Bring what S3 has."""
        self._platform.download(f"{self._uri}/", self._folder)
        self._known = self._files()

    def sync(self) -> None:
        now = self._files()
        for name in sorted(now):
            if self._known.get(name) != now[name]:
                with contextlib.suppress(FileNotFoundError):  # gone again while we looked
                    self._platform.upload(self._folder / name, f"{self._uri}/{name}")
        for name in sorted(self._known.keys() - now.keys()):
            self._platform.remove(f"{self._uri}/{name}")
        self._known = now

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    state = path.stat()
                    found[path.relative_to(self._folder).as_posix()] = (state.st_mtime_ns, state.st_size)
        return found


class MetricFinder:
    """The figures in a job's output, by the request's MetricDefinitions: the first group of the expression counts."""

    def __init__(self, definitions: Iterable[Mapping[str, str]]) -> None:
        self._definitions = [(entry["Name"], re.compile(entry["Regex"])) for entry in definitions]
        self.last: dict[str, dict[str, Any]] = {}
        self.points: list[dict[str, Any]] = []

    def read(self, moment: float, line: str) -> None:
        for name, expression in self._definitions:
            found = expression.search(line)
            if found and found.groups():
                with contextlib.suppress(ValueError):
                    point = {"MetricName": name, "Value": float(found[1]), "Timestamp": moment}
                    self.last[name] = point
                    self.points.append(point)

    def take(self) -> list[dict[str, Any]]:
        """The points since the last call."""
        points, self.points = self.points, []
        return points


def split(uri: str) -> tuple[str, str]:
    """(bucket, key)"""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def now() -> float:
    """To the millisecond, as AWS tells times."""
    return round(time.time(), 3)
