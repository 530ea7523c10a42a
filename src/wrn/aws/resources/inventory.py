"""What wrn created in the account: found by its tag, with its size and running cost.

Anything without wrn's tag is not wrn's, whatever its name; in a bucket that the user named, only what wrn put there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wrn.aws.account.errors import Denied, NoAnswer, NotThere
from wrn.aws.account.names import LOG_GROUP, PREFIX
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import SPOT_SHARE
from wrn.aws.jobs.job import (
    RUNNING,
    Job,
    describe,
    indexed_arns,
    is_ours,
    split_uri,
    started_by,
    summaries,
    tagged_arns,
)
from wrn.aws.jobs.request import DATA_CHANNEL, OWN_DATA
from wrn.aws.resources import kinds as services
from wrn.aws.resources import storage
from wrn.aws.resources.resource import Resource, Unseen
from wrn.errors import AwsError


@dataclass
class Inventory:
    """resources: in order of removal. notes: what could not be inspected, and what stays, with the reason.

    missed: the kinds of which at least one could not be inspected, so that the inventory may be incomplete.
    """

    resources: list[Resource] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    finished_jobs: int = 0

    def miss(self, kind: str, note: str) -> None:
        self.notes.append(note)
        if kind not in self.missed:
            self.missed.append(kind)

    def unseen(self, kind: str) -> Unseen:
        return lambda name, error: self.miss(kind, f"{name} could not be inspected: {error}")


def take_inventory(
    session: Session, *, buckets: Iterable[str] = (), logs: bool = True, records: bool = False
) -> Inventory:
    """Everything of wrn in the session's region, and its roles.

    buckets: the user's own that a deployment may have used, besides those that wrn's jobs name. logs: also the log
    streams of the jobs, one request each. records: also SageMaker's records of finished jobs. Raises AwsError; what the
    caller may not inspect becomes a note.
    """
    inventory = Inventory()
    jobs = tagged_jobs(session)
    known = [entry["TrainingJobName"] for entry in jobs]
    details = [job for name in known if (job := _described(session, name))]
    if records:
        details += _older_jobs(session, known, inventory)
    inventory.finished_jobs = sum(entry["TrainingJobStatus"] not in RUNNING for entry in jobs)
    elsewhere: list[str] = []

    def buckets_of_ours() -> Iterator[Resource]:
        unseen = inventory.unseen("buckets")
        own, others = storage.own_buckets(session, unseen)
        elsewhere.extend(others)
        given = _given_data(details)
        named = {*buckets, *(split_uri(job.output)[0] for job in details if job.output)}
        for name in [*own, *sorted(named - set(own))]:
            try:
                found = _bucket(session, storage.Part(name, name in own, given.get(name, ())))
            except (Denied, NoAnswer) as error:
                unseen(f"bucket {name}", error)
                continue
            if name in own or found.data["objects"] or found.data["uploads"]:
                yield found
            if name not in own:
                inventory.notes += [
                    f"s3://{name}/{prefix} stays: it was given to a job as its data" for prefix in given.get(name, ())
                ]

    looks: list[tuple[str, Callable[[], Iterable[Resource]]]] = [
        ("training jobs", lambda: _running(details, lambda job: started_by(session, job))),
        ("tuning jobs", lambda: services.tuning_jobs(session)),
        ("endpoints", lambda: services.endpoints(session)),
        ("endpoint configurations", lambda: services.of_sagemaker(session, "EndpointConfig", "endpoint configuration")),
        ("models", lambda: services.of_sagemaker(session, "Model", "model")),
        ("alarms", lambda: services.alarms(session)),
        ("dashboards", lambda: services.dashboards(session)),
        ("event rules", lambda: services.rules(session)),
        ("topics", lambda: services.topics(session)),
        ("logs", lambda: _logs(session, details) if logs else ()),
        ("buckets", buckets_of_ours),
        # After the resources that are found through them.
        ("records of jobs", lambda: _records(details) if records else ()),
        ("image repositories", lambda: services.repositories(session)),
        ("budgets", lambda: services.budgets(session)),
        ("roles", lambda: services.roles(session, inventory.unseen("roles"))),
    ]
    for what, look in looks:
        found_by_them = [kind for kind in inventory.missed if kind in ("logs", "buckets")]
        if what == "records of jobs" and records and found_by_them:
            inventory.notes.append(
                f"the records of jobs stay: {' and '.join(found_by_them)} are found through them, see above"
            )
            continue
        try:
            found = list(look())
        except (Denied, NoAnswer) as error:
            inventory.miss(what, f"{what} could not be inspected: {error}")
            continue
        if what in ("roles", "budgets") and elsewhere and found:
            names = ", ".join(resource.name for resource in found)
            inventory.notes.append(f"{names} stays: wrn also has {', '.join(elsewhere)} in other regions; see --region")
            inventory.resources += [services.rights(role, session) for role in found if role.data.get("here")]
            continue
        for role in [resource for resource in found if resource.data.get("elsewhere")]:
            found.remove(role)
            places = ", ".join(role.data["elsewhere"])
            inventory.notes.append(f"{role.name} stays: jobs in {places} use it as well; see --region")
            if role.data["here"]:
                found.append(services.rights(role, session))
        inventory.resources += found
    inventory.notes += services.unknown(session)
    return inventory


def _described(session: Session, name: str) -> Job | None:
    try:
        return describe(session, name)
    except NotThere:
        return None  # already removed by someone else


def tagged_jobs(session: Session) -> list[dict[str, Any]]:
    """Summaries of the jobs with wrn's tag; a matching name is not enough."""
    tagged = tagged_arns(session, "sagemaker:training-job")
    # The tag index lags by some seconds, so the tags of a running job are read directly.
    return [
        entry
        for entry in summaries(session)
        if entry["TrainingJobArn"] in tagged
        or ((entry["TrainingJobStatus"] in RUNNING or not tagged) and is_ours(session, entry["TrainingJobArn"]))
    ]


def _running(jobs: Iterable[Job], user_of: Callable[[Job], str] = lambda job: "") -> Iterator[Resource]:
    for job in jobs:
        machines = f"{job.instances} x {job.instance_type}"
        foreign = ", at the US price" if job.price_is_foreign else ""
        if not job.is_over:
            cost = _job_cost(job, spot=job.spot)
            user = user_of(job)
            detail = f"{machines}{', spot (price assumed)' if job.spot else ''}, {job.secondary.lower()}{foreign}"
            if user:
                detail += f", started by {user}"
            yield Resource("training job", job.name, detail, per_hour=cost, data={"user": user})
        elif job.has_warm_machines:
            yield Resource("warm pool", job.name, f"{machines} kept warm{foreign}", per_hour=_job_cost(job))


def _older_jobs(session: Session, newer: Iterable[str], inventory: Inventory) -> list[Job]:
    """wrn's jobs older than those that `tagged_jobs` lists. Adds to the inventory's notes what cannot be requested."""
    try:
        arns = indexed_arns(session, "sagemaker:training-job")
    except (Denied, NoAnswer) as error:
        inventory.miss("records of jobs", f"older records of jobs could not be listed: {error}")
        return []
    # ARNs contain the job's name in lower case, whatever its own case.
    older = {arn.rpartition("/")[2].lower(): arn for arn in arns}
    found = []
    for name in sorted({*older} - {name.lower() for name in newer}):
        # The tag is read again: deletion is final, and the index lags.
        if not is_ours(session, older[name]):
            continue
        if job := _described(session, name):
            found.append(job)
        else:
            note = f"{older[name]} has wrn's tag but cannot be described by that name: its record stays"
            inventory.miss("records of jobs", note)
    return found


def _records(jobs: Iterable[Job]) -> Iterator[Resource]:
    for job in jobs:
        yield Resource("record", job.name, f"{job.status.lower()} job" if job.is_over else "once the job has stopped")


def _job_cost(job: Job, *, spot: bool = False) -> float | None:
    """US dollars per hour, at the price recorded with it, else at the bundled one."""
    return None if job.price is None else job.price.usd_per_hour * job.instances * (SPOT_SHARE if spot else 1)


def _logs(session: Session, jobs: Iterable[Job]) -> Iterator[Resource]:
    for job in jobs:
        request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job.name}/"}
        try:
            found = list(session.pages("logs", "DescribeLogStreams", "logStreams", request))
        except NotThere:
            return
        if found:
            streams = [stream["logStreamName"] for stream in found]
            detail = f"{len(streams)} stream{'s' if len(streams) > 1 else ''}"
            yield Resource("log", job.name, detail, data={"streams": streams})


def _given_data(jobs: Iterable[Job]) -> dict[str, tuple[str, ...]]:
    """By bucket, the prefixes of data given to jobs with --data-uri, which belongs to the user wherever it is."""
    found: dict[str, tuple[str, ...]] = {}
    for job in jobs:
        for channel in job.answer.get("InputDataConfig") or ():
            uri = channel["DataSource"].get("S3DataSource", {}).get("S3Uri", "")
            if channel["ChannelName"] == DATA_CHANNEL and uri:
                bucket, key = split_uri(uri)
                if not OWN_DATA.match(key):
                    found[bucket] = tuple(dict.fromkeys((*found.get(bucket, ()), key)))
    return found


def _bucket(session: Session, part: storage.Part) -> Resource:
    size = storage.measure(session, part)
    detail = f"{size.objects:,} objects and versions"
    if size.uploads:
        detail += f", {size.uploads} unfinished upload{'s' if size.uploads > 1 else ''}"
    return Resource(
        "bucket" if part.whole else "objects",
        part.bucket if part.whole else f"{part.bucket}/{PREFIX}/",
        detail,
        bytes=size.bytes,
        per_month=storage.monthly(size.bytes),
        data={"part": part, "objects": size.objects, "uploads": size.uploads},
    )


def bucket_given(name: str) -> str:
    """A bucket's name as given, with or without s3://. Raises AwsError for an address inside one."""
    name = name.removeprefix("s3://").rstrip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise AwsError(f"bucket: {name!r} is not a bucket name; give only its name, without a folder")
    return name
