"""A training job as SageMaker tells it, moved on by hand, with its log and its checkpoints: moto's are over at once."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fake_logs import FakeLogs
from wrn.aws.account.errors import NotThere

START = 1_800_000_000.0


def at(seconds: float) -> datetime:
    """So long after the start of the job."""
    return datetime.fromtimestamp(START + seconds, tz=UTC)


def epoch_line(epoch: int, epochs: int = 10, top1: float = 0.5) -> str:
    return (
        f"dataset=cifar100 epoch={epoch} epochs={epochs} train_loss=2.1000 train_top1=0.4000 test_loss=1.9000 "
        f"test_top1={top1:.4f} test_top5=0.8000 lr=0.0998 images_per_s=2875.1 mfu=0.4011 seconds=30.0"
    )


class FakeJob(FakeLogs):
    """A session that knows one job. `now`: seconds since its start; `fail_next`: raised by the next request."""

    region = "us-east-1"
    account = "111122223333"
    profile = None

    def __init__(self, name: str = "wrn-a", *, spot: bool = False, instance_type: str = "ml.g5.xlarge") -> None:
        super().__init__()
        self.now = 0.0
        self.fail_next: list[Exception] = []
        self.sent: list[tuple[str, str]] = []
        self.checkpoints: list[float] = []
        self.tags = [{"Key": "created-by", "Value": "wrn"}, {"Key": "aws:x", "Value": "y"}]
        self.answer: dict[str, Any] = {
            "TrainingJobName": name,
            "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:111122223333:training-job/{name}",
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "SecondaryStatusTransitions": [],
            "CreationTime": at(0),
            "AlgorithmSpecification": {"TrainingImage": "1.example/x", "TrainingInputMode": "File"},
            "RoleArn": "arn:aws:iam::111122223333:role/wrn-training",
            "ResourceConfig": {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            "CheckpointConfig": {"S3Uri": "s3://b/wrn/checkpoints/wrn-a", "LocalPath": "/opt/ml/checkpoints"},
            "OutputDataConfig": {"S3OutputPath": "s3://b/wrn/output"},
            "HyperParameters": {"epochs": "10"},
            "EnableManagedSpotTraining": spot,
        }
        self.enter("Starting")

    def clock(self) -> float:
        return START + self.now

    def enter(self, status: str, message: str = "") -> None:
        """The job's next phase begins now."""
        transitions = self.answer["SecondaryStatusTransitions"]
        if transitions:
            transitions[-1]["EndTime"] = at(self.now)
        transitions.append({"Status": status, "StartTime": at(self.now), "StatusMessage": message})
        self.answer["SecondaryStatus"] = status
        main = {"Completed": "Completed", "Failed": "Failed", "Stopped": "Stopped", "Stopping": "Stopping"}
        self.answer["TrainingJobStatus"] = main.get(status, "InProgress")
        if self.answer["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            transitions[-1]["EndTime"] = self.answer["TrainingEndTime"] = at(self.now)

    def say(self, message: str, host: str = "algo-1-1") -> None:
        """The job writes a line now."""
        self.write(f"{self.answer['TrainingJobName']}/{host}", int(1000 * self.clock()), message)

    def log_in(self) -> None:
        pass

    def call(self, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        self.sent.append((service, operation))
        if self.fail_next:
            raise self.fail_next.pop(0)
        if operation == "DescribeTrainingJob":
            assert request is not None
            if request["TrainingJobName"] != self.answer["TrainingJobName"]:
                raise NotThere("DescribeTrainingJob: Requested resource not found (ValidationException)")
            return {**self.answer, "SecondaryStatusTransitions": [*self.answer["SecondaryStatusTransitions"]]}
        if operation == "StopTrainingJob":
            self.enter("Stopping")
            return {}
        if operation == "ListObjectsV2":
            date = email.utils.formatdate(self.clock(), usegmt=True)
            written = [{"Key": "k", "Size": 1, "LastModified": at(moment)} for moment in self.checkpoints]
            return {"Contents": written, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}
        return super().call(service, operation, request)

    def pages(self, service: str, operation: str, key: str, request: dict[str, Any] | None = None) -> Iterator[Any]:
        if operation == "ListTrainingJobs":
            return iter(
                [
                    {**self.answer, "TrainingJobName": name, "TrainingJobArn": f"arn:{name}"}
                    for name in (self.answer["TrainingJobName"], "other", "wrn-standard-20260101-000000")
                ]
            )
        if operation == "GetResources":
            return iter([])
        if operation == "ListTags":
            return iter(self.tags)
        return super().pages(service, operation, key, request)
