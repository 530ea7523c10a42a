"""What of ours is in the account: found by its tag, with its size and what it costs as long as it stays.

What carries no tag of ours is not ours, whatever its name; of a bucket that the user named, only our prefix is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wrn.aws.clearing import storage
from wrn.aws.faults import Denied, NoAnswer, NotThere
from wrn.aws.following.events import GROUP
from wrn.aws.jobs import RUNNING, Job, describe, has_our_tag, indexed_arns, is_ours, split_uri, summaries, tagged_arns
from wrn.aws.options import OWNER_TAG, dashboard_name, partition, policy_region
from wrn.aws.prices import SPOT_SHARE, bundled_prices
from wrn.aws.session import Session
from wrn.errors import AwsError

HOURS_PER_MONTH = 730

MARK = "=".join(OWNER_TAG)
"""Stands in the body of our dashboards, which have no tags."""

ALARM_PER_MONTH, DASHBOARD_PER_MONTH, ECR_PER_GB_MONTH = 0.10, 3.00, 0.10
"""US dollars, us-east-1, from public price lists of 2026; the first 3 dashboards and 10 alarms cost nothing."""


@dataclass(frozen=True)
class Resource:
    """Something of ours. Money in US dollars, None where no price is known; `data`: what its removal needs."""

    kind: str
    name: str
    detail: str = ""
    bytes: int = 0
    per_hour: float | None = 0.0
    per_month: float | None = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def monthly(self) -> float | None:
        """If it stays as it is for a month; a job ends by itself, and is counted by the hour alone."""
        if self.kind in ("training job", "warm pool"):
            return 0.0
        if self.per_hour is None or self.per_month is None:
            return None
        return self.per_month + HOURS_PER_MONTH * self.per_hour


@dataclass
class Inventory:
    """resources: in the order of their removal. notes: what could not be looked at, and what stays, with the reason."""

    resources: list[Resource] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    finished_jobs: int = 0


def take_inventory(
    session: Session, *, buckets: Iterable[str] = (), logs: bool = True, records: bool = False
) -> Inventory:
    """Everything of ours in the session's region, and our roles.

    buckets: the user's own that a deployment may have used, beside those that our jobs name. logs: also the log streams
    of our jobs, a request for each. records: also what SageMaker keeps of our jobs when they are over. Raises AwsError;
    what the caller may not look at becomes a note.
    """
    inventory = Inventory()
    jobs = tagged_jobs(session)
    known = [entry["TrainingJobName"] for entry in jobs]
    if records:
        known += _older_jobs(session, known, inventory.notes)
    inventory.finished_jobs = sum(entry["TrainingJobStatus"] not in RUNNING for entry in jobs)
    details = [job for name in known if (job := _described(session, name))]
    elsewhere: list[str] = []

    def buckets_of_ours() -> Iterator[Resource]:
        own, others = storage.own_buckets(session)
        elsewhere.extend(others)
        named = {*buckets, *(split_uri(job.output)[0] for job in details if job.output)}
        for name in own:
            yield _bucket(session, name, "", "bucket")
        for name in sorted(named - set(own)):
            found = _bucket(session, name, storage.PREFIX, "objects")
            if found.data["objects"] or found.data["uploads"]:
                yield found

    looks: list[tuple[str, Callable[[], Iterable[Resource]]]] = [
        ("training jobs", lambda: _running(details)),
        ("tuning jobs", lambda: _tuning_jobs(session)),
        ("endpoints", lambda: _endpoints(session)),
        ("endpoint configurations", lambda: _of_sagemaker(session, "EndpointConfig", "endpoint configuration")),
        ("models", lambda: _of_sagemaker(session, "Model", "model")),
        ("alarms", lambda: _alarms(session)),
        ("dashboards", lambda: _dashboards(session)),
        ("event rules", lambda: _rules(session)),
        ("topics", lambda: _topics(session)),
        ("logs", lambda: _logs(session, details) if logs else ()),
        ("buckets", buckets_of_ours),
        # After what is found by them.
        ("records of jobs", lambda: _records(details) if records else ()),
        ("image repositories", lambda: _repositories(session)),
        ("budgets", lambda: _budgets(session)),
        ("roles", lambda: _roles(session)),
    ]
    missed: list[str] = []
    for what, look in looks:
        if what == "records of jobs" and records and {"logs", "buckets"} & {*missed}:
            inventory.notes.append(f"the records of jobs stay: by them {' and '.join(missed)} are found, see above")
            continue
        try:
            found = list(look())
        except (Denied, NoAnswer) as error:
            inventory.notes.append(f"{what} were not looked at: {error}")
            missed.append(what)
            continue
        if what in ("roles", "budgets") and elsewhere and found:
            names = ", ".join(resource.name for resource in found)
            inventory.notes.append(f"{names} stays: {', '.join(elsewhere)} in other regions is ours too; see --region")
            inventory.resources += [_rights(role, session) for role in found if role.data.get("here")]
            continue
        for role in [resource for resource in found if resource.data.get("elsewhere")]:
            found.remove(role)
            places = ", ".join(role.data["elsewhere"])
            inventory.notes.append(f"{role.name} stays: it is for jobs in {places} as well; see --region")
            if role.data["here"]:
                found.append(_rights(role, session))
        inventory.resources += found
    inventory.notes += _unknown(session)
    return inventory


def _described(session: Session, name: str) -> Job | None:
    try:
        return describe(session, name)
    except NotThere:
        return None  # somebody else was quicker


def tagged_jobs(session: Session) -> list[dict[str, Any]]:
    """Summaries of the jobs with our tag: a name alone does not make one ours."""
    tagged = tagged_arns(session, "sagemaker:training-job")
    # The index of tags lags by some seconds, so a running job is asked itself.
    return [
        entry
        for entry in summaries(session)
        if entry["TrainingJobArn"] in tagged
        or ((entry["TrainingJobStatus"] in RUNNING or not tagged) and is_ours(session, entry["TrainingJobArn"]))
    ]


def instance_cost(instance_type: str, count: int) -> float | None:
    """US dollars an hour by the bundled list. None where the type is not in it."""
    price = bundled_prices().get(instance_type)
    return None if price is None else price.usd_per_hour * count


def _running(jobs: Iterable[Job]) -> Iterator[Resource]:
    for job in jobs:
        machines = f"{job.instances} x {job.instance_type}"
        foreign = ", by the US price" if job.price_is_foreign else ""
        if not job.is_over:
            cost = _job_cost(job, spot=job.spot)
            detail = f"{machines}{', spot (price assumed)' if job.spot else ''}, {job.secondary.lower()}{foreign}"
            yield Resource("training job", job.name, detail, per_hour=cost)
        elif job.has_warm_machines:
            yield Resource("warm pool", job.name, f"{machines} kept ready{foreign}", per_hour=_job_cost(job))


def _older_jobs(session: Session, newer: Iterable[str], notes: list[str]) -> list[str]:
    """Names of our jobs behind all that `tagged_jobs` looks through. notes: gets one where they cannot be asked for."""
    try:
        arns = indexed_arns(session, "sagemaker:training-job")
    except (Denied, NoAnswer) as error:
        notes.append(f"records of jobs older than the newest were not looked for: {error}")
        return []
    older = {arn.rpartition("/")[2]: arn for arn in arns}
    # Their tag is read once more: what goes by it goes for good, and the index lags.
    return [name for name in sorted({*older} - {*newer}) if is_ours(session, older[name])]


def _records(jobs: Iterable[Job]) -> Iterator[Resource]:
    for job in jobs:
        yield Resource("record", job.name, f"{job.status.lower()} job" if job.is_over else "once the job has stopped")


def _job_cost(job: Job, *, spot: bool = False) -> float | None:
    """US dollars an hour by the price recorded with it, else by the bundled list."""
    return None if job.price is None else job.price.usd_per_hour * job.instances * (SPOT_SHARE if spot else 1)


def _tuning_jobs(session: Session) -> Iterator[Resource]:
    request = {"StatusEquals": "InProgress"}
    for entry in session.pages(
        "sagemaker", "ListHyperParameterTuningJobs", "HyperParameterTuningJobSummaries", request
    ):
        running = entry["HyperParameterTuningJobStatus"] == "InProgress"
        if running and is_ours(session, entry["HyperParameterTuningJobArn"]):
            yield Resource("tuning job", entry["HyperParameterTuningJobName"], "its jobs are listed by themselves")


def _endpoints(session: Session) -> Iterator[Resource]:
    for entry in session.pages("sagemaker", "ListEndpoints", "Endpoints"):
        if not is_ours(session, entry["EndpointArn"]):
            continue
        cost: float | None = 0.0
        machines = []
        try:
            told = session.call("sagemaker", "DescribeEndpoint", {"EndpointName": entry["EndpointName"]})
            config = {"EndpointConfigName": told["EndpointConfigName"]}
            for variant in session.call("sagemaker", "DescribeEndpointConfig", config)["ProductionVariants"]:
                if "InstanceType" in variant:  # a serverless one costs per request
                    count = int(variant.get("InitialInstanceCount", 1))
                    part = instance_cost(variant["InstanceType"], count)
                    cost = None if cost is None or part is None else cost + part
                    machines.append(f"{count} x {variant['InstanceType']}")
        except NotThere:
            cost = None
        detail = f"{', '.join(machines) or 'serverless'}, {entry['EndpointStatus']}"
        yield Resource("endpoint", entry["EndpointName"], detail, per_hour=cost)


def _of_sagemaker(session: Session, noun: str, kind: str) -> Iterator[Resource]:
    for entry in session.pages("sagemaker", f"List{noun}s", f"{noun}s"):
        if is_ours(session, entry[f"{noun}Arn"]):
            yield Resource(kind, entry[f"{noun}Name"])


def _alarms(session: Session) -> Iterator[Resource]:
    for entry in session.pages("cloudwatch", "DescribeAlarms", "MetricAlarms", {"AlarmNamePrefix": "wrn"}):
        if _tagged(session, "cloudwatch", {"ResourceARN": entry["AlarmArn"]}):
            yield Resource("alarm", entry["AlarmName"], per_month=ALARM_PER_MONTH)


def _rules(session: Session) -> Iterator[Resource]:
    for entry in session.pages("events", "ListRules", "Rules", {"NamePrefix": "wrn"}):
        if _tagged(session, "events", {"ResourceARN": entry["Arn"]}):
            yield Resource("event rule", entry["Name"])


def _topics(session: Session) -> Iterator[Resource]:
    for entry in session.pages("sns", "ListTopics", "Topics"):
        arn = entry["TopicArn"]
        name = arn.rpartition(":")[2]
        if name.startswith("wrn") and _tagged(session, "sns", {"ResourceArn": arn}):
            yield Resource("topic", name, "with its subscriptions", data={"arn": arn})


def _dashboards(session: Session) -> Iterator[Resource]:
    """That of this region: dashboards are the account's, whatever region is asked."""
    name = dashboard_name(session.region)
    try:
        body = session.call("cloudwatch", "GetDashboard", {"DashboardName": name})["DashboardBody"]
    except NotThere:
        return
    if MARK in body:
        yield Resource("dashboard", name, per_month=DASHBOARD_PER_MONTH)


def _budgets(session: Session) -> Iterator[Resource]:
    account = session.account
    try:
        for entry in session.pages("budgets", "DescribeBudgets", "Budgets", {"AccountId": account}):
            name = entry["BudgetName"]
            if name.startswith("wrn"):
                arn = f"arn:{partition(session.region)}:budgets::{account}:budget/{name}"
                if _tagged(session, "budgets", {"ResourceARN": arn}, key="ResourceTags"):
                    yield Resource("budget", name)
    except NotThere:
        return


def _logs(session: Session, jobs: Iterable[Job]) -> Iterator[Resource]:
    for job in jobs:
        request = {"logGroupName": GROUP, "logStreamNamePrefix": f"{job.name}/"}
        try:
            found = list(session.pages("logs", "DescribeLogStreams", "logStreams", request))
        except NotThere:
            return
        if found:
            streams = [stream["logStreamName"] for stream in found]
            detail = f"{len(streams)} stream{'s' if len(streams) > 1 else ''}"
            yield Resource("log", job.name, detail, data={"streams": streams})


def _bucket(session: Session, name: str, prefix: str, kind: str) -> Resource:
    size = storage.measure(session, name, prefix)
    detail = f"{size.objects:,} objects and versions"
    if size.uploads:
        detail += f", {size.uploads} unfinished upload{'s' if size.uploads > 1 else ''}"
    return Resource(
        kind,
        f"{name}/{prefix}" if prefix else name,
        detail,
        bytes=size.bytes,
        per_month=storage.monthly(size.bytes),
        data={"bucket": name, "prefix": prefix, "objects": size.objects, "uploads": size.uploads},
    )


def _repositories(session: Session) -> Iterator[Resource]:
    for entry in session.pages("ecr", "DescribeRepositories", "repositories"):
        name = entry["repositoryName"]
        if _tagged(session, "ecr", {"resourceArn": entry["repositoryArn"]}, key="tags"):
            try:
                images = list(session.pages("ecr", "DescribeImages", "imageDetails", {"repositoryName": name}))
            except NotThere:
                continue  # it went since it was listed
            size = sum(image.get("imageSizeInBytes", 0) for image in images)
            cost = size / storage.GB * ECR_PER_GB_MONTH
            yield Resource("image repository", name, f"{len(images)} images", bytes=size, per_month=cost)


def _roles(session: Session) -> Iterator[Resource]:
    for entry in session.pages("iam", "ListRoles", "Roles"):
        if "sagemaker.amazonaws.com" not in json.dumps(entry.get("AssumeRolePolicyDocument", "")):
            continue  # ours are for SageMaker alone, and asking each role of an account takes minutes
        name = {"RoleName": entry["RoleName"]}
        if _tagged(session, "iam", name, operation="ListRoleTags"):
            try:
                policies = list(session.pages("iam", "ListRolePolicies", "PolicyNames", name))
            except NotThere:
                continue  # it went since it was listed
            places = {policy: place for policy in policies if (place := policy_region(policy))}
            data = {
                "here": [policy for policy, place in places.items() if place == session.region],
                "elsewhere": sorted({*places.values()} - {session.region}),
            }
            yield Resource("role", entry["RoleName"], data=data)


def _rights(role: Resource, session: Session) -> Resource:
    """Of a role that stays: its policies for this region. A role has room for 10,240 characters of them."""
    return replace(role, kind="rights of role", detail=f"for jobs in {session.region}")


def _tagged(
    session: Session,
    service: str,
    request: dict[str, str],
    *,
    key: str = "Tags",
    operation: str = "ListTagsForResource",
) -> bool:
    """Whether a thing carries our tag; not where it is gone since it was listed."""
    try:
        return has_our_tag(session.call(service, operation, request).get(key) or ())
    except NotThere:
        return False


def _unknown(session: Session) -> list[str]:
    """What carries our tag and is of no kind that is known here, so that it is at least told."""
    known = ("s3", "sagemaker", "ecr", "cloudwatch", "iam", "budgets", "logs", "events", "sns")
    request = {"TagFilters": [{"Key": OWNER_TAG[0], "Values": [OWNER_TAG[1]]}]}
    try:
        found = session.pages("resourcegroupstaggingapi", "GetResources", "ResourceTagMappingList", request)
        return [
            f"{entry['ResourceARN']} carries our tag, but is nothing that this command knows to remove"
            for entry in found
            if entry["ResourceARN"].split(":")[2] not in known
        ]
    except (Denied, NoAnswer):
        return []


def bucket_given(name: str) -> str:
    """A bucket's name as given, with or without s3://. Raises AwsError for an address inside one."""
    name = name.removeprefix("s3://").rstrip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise AwsError(f"bucket: {name!r} is not a bucket name; give it alone, without a folder")
    return name
