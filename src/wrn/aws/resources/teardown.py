"""Remove what wrn created, in an order in which nothing removed is still in use; repeating it converges."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from wrn.aws.account.errors import Denied, NameInUse, NotThere
from wrn.aws.account.names import LOG_GROUP
from wrn.aws.account.session import Session
from wrn.aws.jobs.job import describe, release
from wrn.aws.jobs.job import stop as stop_job
from wrn.aws.resources import storage
from wrn.aws.resources.resource import Resource
from wrn.errors import AwsError

STOP_MINUTES = 10
"""A job has two minutes to save; then its model is uploaded."""

USED_BY_JOBS = ("log", "bucket", "objects", "image repository", "rights of role", "role")
"""What a job needs until it ends: without it the job fails, and its model is lost."""

Tell = Callable[[str], None]


def remove(
    session: Session, resources: Sequence[Resource], tell: Tell, *, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Remove these, in order; returns a sentence for each that could not be removed. Already gone counts as removed.

    Raises AwsError if a job has not stopped, after removing everything that it does not use.
    """
    faults: list[str] = []
    jobs = [resource for resource in resources if resource.kind in ("training job", "tuning job", "warm pool")]
    stopping: list[str] = []
    running: list[str] = []
    for resource in jobs:
        refusals = _remove_one(session, resource, tell)
        faults += refusals
        if resource.kind == "training job":
            (running if refusals else stopping).append(resource.name)
    running += _await_end(session, stopping, tell, sleep)
    faults += _release_machines(session, [name for name in stopping if name not in running], tell)
    records = [resource for resource in resources if resource.kind == "record"]
    for resource in resources:
        if resource not in jobs and resource not in records and not (running and resource.kind in USED_BY_JOBS):
            faults += _remove_one(session, resource, tell)
    if running:
        kept = f"{', '.join(running)} has not stopped: buckets, logs, images and roles stay until then"
        raise AwsError("\n".join([*faults, f"{kept}; repeat this command later"]))
    if records and faults:
        return [*faults, "the records of jobs stay until that is removed, as it is found through them"]
    return faults + _remove_records(session, records, tell)


def check_records(session: Session) -> None:
    """Raises AwsError if boto3 is too old to delete the record of a job."""
    if "DeleteTrainingJob" not in session.client("sagemaker").meta.service_model.operation_names:
        raise AwsError(
            "records: this boto3 does not know DeleteTrainingJob; pip install --upgrade boto3, or leave out --records"
        )


def _remove_records(session: Session, records: Sequence[Resource], tell: Tell) -> list[str]:
    """Delete SageMaker's records of jobs: settings and metrics. A missing permission is reported once for all."""
    faults: list[str] = []
    for record in records:
        try:
            session.call("sagemaker", "DeleteTrainingJob", {"TrainingJobName": record.name})
        except NotThere:
            pass
        except Denied as error:
            return [*faults, f"records of jobs: {error}; see `wrn teardown --records --print-policy`"]
        except NameInUse:
            faults.append(f"record {record.name}: the job has not ended, or its instances are still kept warm")
            continue
        except AwsError as error:
            faults.append(f"record {record.name}: {error}")
            continue
        tell(f"removed record {record.name}")
    return faults


def _remove_one(session: Session, resource: Resource, tell: Tell) -> list[str]:
    try:
        REMOVALS[resource.kind](session, resource)
    except NotThere:
        pass  # already removed by someone else
    except AwsError as error:
        return [f"{resource.kind} {resource.name}: {error}"]
    verb = {"training job": "stopping", "tuning job": "stopping", "warm pool": "released"}.get(resource.kind, "removed")
    tell(f"{verb} {resource.kind} {resource.name}")
    return []


def _await_end(session: Session, jobs: Sequence[str], tell: Tell, sleep: Callable[[float], None]) -> list[str]:
    """The jobs that still run after STOP_MINUTES."""
    running = list(jobs)
    for waited in range(0, 60 * STOP_MINUTES, 5):
        running = [name for name in running if not describe(session, name).is_over]
        if not running:
            return []
        if not waited:
            tell(f"waiting for {', '.join(running)} to stop: saving takes some minutes")
        sleep(5)
    return running


def _release_machines(session: Session, stopped: Sequence[str], tell: Tell) -> list[str]:
    """Release the instances of jobs that just stopped and were to keep them warm."""
    faults = []
    for name in stopped:
        try:
            if release(session, describe(session, name)):
                tell(f"released warm pool {name}")
        except NotThere:
            continue  # already removed by someone else
        except AwsError as error:
            faults.append(f"warm pool {name}: {error}")
    return faults


def _training_job(session: Session, resource: Resource) -> None:
    stop_job(session, describe(session, resource.name))


def _tuning_job(session: Session, resource: Resource) -> None:
    session.call("sagemaker", "StopHyperParameterTuningJob", {"HyperParameterTuningJobName": resource.name})


def _warm_pool(session: Session, resource: Resource) -> None:
    release(session, describe(session, resource.name))


def _rule(session: Session, resource: Resource) -> None:
    """A rule with targets cannot be removed."""
    rule = {"Rule": resource.name}
    targets = [target["Id"] for target in session.pages("events", "ListTargetsByRule", "Targets", rule)]
    if targets:
        session.call("events", "RemoveTargets", {**rule, "Ids": targets})
    session.call("events", "DeleteRule", {"Name": resource.name})


def _topic(session: Session, resource: Resource) -> None:
    session.call("sns", "DeleteTopic", {"TopicArn": resource.data["arn"]})


def _log(session: Session, resource: Resource) -> None:
    for stream in resource.data["streams"]:
        try:
            session.call("logs", "DeleteLogStream", {"logGroupName": LOG_GROUP, "logStreamName": stream})
        except NotThere:
            continue


def _objects(session: Session, resource: Resource) -> None:
    storage.empty(session, resource.data["part"])


def _bucket(session: Session, resource: Resource) -> None:
    storage.empty(session, storage.Part(resource.name))
    session.call("s3", "DeleteBucket", {"Bucket": resource.name})


def _budget(session: Session, resource: Resource) -> None:
    session.call("budgets", "DeleteBudget", {"AccountId": session.account, "BudgetName": resource.name})


def _role(session: Session, resource: Resource) -> None:
    name = {"RoleName": resource.name}
    for policy in list(session.pages("iam", "ListRolePolicies", "PolicyNames", name)):
        session.call("iam", "DeleteRolePolicy", {**name, "PolicyName": policy})
    for attached in list(session.pages("iam", "ListAttachedRolePolicies", "AttachedPolicies", name)):
        session.call("iam", "DetachRolePolicy", {**name, "PolicyArn": attached["PolicyArn"]})
    session.call("iam", "DeleteRole", name)


def _rights(session: Session, resource: Resource) -> None:
    for policy in resource.data["here"]:
        session.call("iam", "DeleteRolePolicy", {"RoleName": resource.name, "PolicyName": policy})


def _by(service: str, operation: str, key: str, **more: object) -> Callable[[Session, Resource], None]:
    def removal(session: Session, resource: Resource) -> None:
        session.call(service, operation, {key: resource.name, **more})

    return removal


def _by_list(service: str, operation: str, key: str) -> Callable[[Session, Resource], None]:
    def removal(session: Session, resource: Resource) -> None:
        session.call(service, operation, {key: [resource.name]})

    return removal


REMOVALS: dict[str, Callable[[Session, Resource], None]] = {
    "training job": _training_job,
    "tuning job": _tuning_job,
    "warm pool": _warm_pool,
    "endpoint": _by("sagemaker", "DeleteEndpoint", "EndpointName"),
    "endpoint configuration": _by("sagemaker", "DeleteEndpointConfig", "EndpointConfigName"),
    "model": _by("sagemaker", "DeleteModel", "ModelName"),
    "alarm": _by_list("cloudwatch", "DeleteAlarms", "AlarmNames"),
    "dashboard": _by_list("cloudwatch", "DeleteDashboards", "DashboardNames"),
    "event rule": _rule,
    "topic": _topic,
    "log": _log,
    "objects": _objects,
    "bucket": _bucket,
    "image repository": _by("ecr", "DeleteRepository", "repositoryName", force=True),
    "budget": _budget,
    "rights of role": _rights,
    "role": _role,
}
"""By kind of resource. Each raises NotThere if it is already gone."""
