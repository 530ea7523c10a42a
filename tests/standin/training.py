"""The operations of SageMaker on training jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from standin.faults import ACCOUNT, Faults
from standin.job import FINAL, TrainingJob
from standin.platform import Platform
from standin.validation import check, check_training_job, service_model
from standin.wire import AwsFault, Call

Request = Mapping[str, Any]

NOT_FOUND = AwsFault("ValidationException", "Requested resource not found.")


class TrainingJobs:
    """All jobs of all regions. `settings` is what each job's runner gets beside the request."""

    def __init__(self, endpoint: str, work: Path, faults: Faults, settings: Mapping[str, Any]) -> None:
        self.jobs: dict[tuple[str, str], TrainingJob] = {}
        self._endpoint, self._work, self._faults, self._settings = endpoint, work, faults, settings
        self._platforms: dict[str, Platform] = {}
        self._lock = threading.RLock()
        self._made = 0
        self._operations: dict[str, Callable[[str, Request], Request]] = {
            "CreateTrainingJob": self.create,
            "DescribeTrainingJob": self.describe,
            "ListTrainingJobs": self.list,
            "StopTrainingJob": self.stop,
            "DeleteTrainingJob": self.delete,
            "ListTags": self.list_tags,
            "AddTags": self.add_tags,
            "DeleteTags": self.delete_tags,
        }

    def handles(self, call: Call) -> bool:
        if call.service != "sagemaker" or call.operation not in self._operations:
            return False
        return "Tags" not in call.operation or ":training-job/" in str(call.request.get("ResourceArn", ""))

    def answer(self, call: Call) -> Request:
        """Raises AwsFault for what AWS would refuse."""
        check("sagemaker", call.operation, call.request)
        return self._operations[call.operation](call.region, call.request)

    def job(self, name: str, region: str = "us-east-1") -> TrainingJob:
        """Raises AwsFault where there is none."""
        with self._lock:
            if (region, name) not in self.jobs:
                raise NOT_FOUND
            return self.jobs[region, name]

    def create(self, region: str, request: Request) -> Request:
        check_training_job(request)
        name, machine = request["TrainingJobName"], request["ResourceConfig"]
        platform = self._platform(region)
        platform.check_role(request["RoleArn"])
        platform.check_bucket(request["OutputDataConfig"]["S3OutputPath"])
        with self._lock:
            if (region, name) in self.jobs:
                raise AwsFault(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a training job with "
                    f"this name already exists (arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{name}).",
                )
            self._check_quota(region, machine, bool(request.get("EnableManagedSpotTraining")))
            self._made += 1
            job = TrainingJob(
                request,
                arn=f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{name.lower()}",
                region=region,
                platform=platform,
                faults=self._faults,
                work=self._work / str(self._made),
                settings=self._settings,
            )
            self.jobs[region, name] = job
        job.start()
        return {"TrainingJobArn": job.arn}

    def describe(self, region: str, request: Request) -> Request:
        job = self.job(request["TrainingJobName"], region)
        known = service_model("sagemaker").operation_model("DescribeTrainingJob").output_shape.members
        answer = {key: value for key, value in job.request.items() if key in known}
        answer |= {
            "TrainingJobArn": job.arn,
            "TrainingJobStatus": job.status,
            "SecondaryStatus": job.secondary,
            "CreationTime": job.created,
            "LastModifiedTime": job.changed,
            "SecondaryStatusTransitions": list(job.transitions),
            "ModelArtifacts": {"S3ModelArtifacts": job.model_uri},
            "EnableNetworkIsolation": job.request.get("EnableNetworkIsolation", False),
            "EnableInterContainerTrafficEncryption": job.request.get("EnableInterContainerTrafficEncryption", False),
            "EnableManagedSpotTraining": job.spot,
        }
        if job.metrics.last:
            answer["FinalMetricDataList"] = list(job.metrics.last.values())
        if job.started is not None:
            answer["TrainingStartTime"] = job.started
        if job.status in FINAL:
            answer["TrainingEndTime"] = job.ended
            if job.started is not None:
                answer["TrainingTimeInSeconds"] = -int(-job.training_seconds // 1)
                answer["BillableTimeInSeconds"] = job.billable_seconds
        if job.status == "Failed":
            answer["FailureReason"] = job.reason[:1024]
        return answer

    def list(self, region: str, request: Request) -> Request:
        with self._lock:
            jobs = [job for (place, _), job in self.jobs.items() if place == region]
        jobs = [job for job in jobs if request.get("NameContains", "").lower() in job.name.lower()]
        if "StatusEquals" in request:
            jobs = [job for job in jobs if job.status == request["StatusEquals"]]
        for bound, sign in (("After", 1), ("Before", -1)):
            for kind in ("Creation", "LastModified"):
                if (limit := request.get(f"{kind}Time{bound}")) is not None:
                    jobs = [job for job in jobs if sign * (_moment(job, kind) - limit) > 0]
        keys: dict[str, Callable[[TrainingJob], Any]] = {
            "Name": lambda job: job.name,
            "Status": lambda job: job.status,
            "CreationTime": lambda job: job.created,
        }
        jobs.sort(key=keys[request.get("SortBy", "CreationTime")])
        if request.get("SortOrder", "Descending") == "Descending":
            jobs.reverse()
        first, many = int(request.get("NextToken", "0")), request.get("MaxResults", 10)
        page = jobs[first : first + many]
        more = {"NextToken": str(first + many)} if first + many < len(jobs) else {}
        return {"TrainingJobSummaries": [_summary(job) for job in page], **more}

    def stop(self, region: str, request: Request) -> Request:
        self.job(request["TrainingJobName"], region).stop()
        return {}

    def delete(self, region: str, request: Request) -> Request:
        job = self.job(request["TrainingJobName"], region)
        if job.status not in FINAL:
            raise AwsFault("ValidationException", f"Cannot delete a training job in status {job.status}.")
        with self._lock:
            del self.jobs[region, job.name]
        return {}

    def list_tags(self, region: str, request: Request) -> Request:
        return {"Tags": _tags(self._by_arn(region, request))}

    def add_tags(self, region: str, request: Request) -> Request:
        job = self._by_arn(region, request)
        job.tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        return {"Tags": _tags(job)}

    def delete_tags(self, region: str, request: Request) -> Request:
        job = self._by_arn(region, request)
        job.tags = {key: value for key, value in job.tags.items() if key not in request["TagKeys"]}
        return {}

    def reset(self) -> None:
        """Kill what runs and forget all jobs."""
        with self._lock:
            jobs = list(self.jobs.values())
            self.jobs.clear()
        for job in jobs:
            job.abandon()

    def _by_arn(self, region: str, request: Request) -> TrainingJob:
        with self._lock:
            for (place, _), job in self.jobs.items():
                if place == region and job.arn == request["ResourceArn"].lower():
                    return job
        raise NOT_FOUND

    def _check_quota(self, region: str, machine: Request, spot: bool) -> None:
        kind, asked = machine["InstanceType"], machine["InstanceCount"]
        used = sum(
            job.machine["InstanceCount"]
            for (place, _), job in self.jobs.items()
            if place == region and job.status not in FINAL and (job.machine["InstanceType"], job.spot) == (kind, spot)
        )
        allowed = self._faults.quota_of(kind, spot)
        if used + asked > allowed:
            raise AwsFault(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind} for {'spot ' * spot}training job usage' is {allowed:.0f} "
                f"Instances, with current utilization of {used} Instances and a request delta of {asked} Instances. "
                "Please use AWS Service Quotas to request an increase for this quota. If AWS Service Quotas is not "
                "available, contact AWS support to request an increase for this quota.",
            )

    def _platform(self, region: str) -> Platform:
        with self._lock:
            if region not in self._platforms:
                self._platforms[region] = Platform(self._endpoint, region)
            return self._platforms[region]


def _moment(job: TrainingJob, kind: str) -> float:
    return job.created if kind == "Creation" else job.changed


def _tags(job: TrainingJob) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in job.tags.items()]


def _summary(job: TrainingJob) -> dict[str, Any]:
    summary = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "CreationTime": job.created,
        "LastModifiedTime": job.changed,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
    }
    return summary | ({"TrainingEndTime": job.ended} if job.ended is not None else {})
