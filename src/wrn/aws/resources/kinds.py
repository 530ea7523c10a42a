"""wrn's resources in each service, except jobs and buckets: found by their tag, whatever their name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wrn.aws.account.errors import Denied, NoAnswer, NotThere
from wrn.aws.account.names import OWNER_TAG, dashboard_name, policy_region
from wrn.aws.account.partitions import partition
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import bundled_prices
from wrn.aws.jobs.job import has_our_tag, is_ours
from wrn.aws.resources import storage
from wrn.aws.resources.resource import Resource, Unseen
from wrn.strict_json import to_json

MARK = "=".join(OWNER_TAG)
"""In the body of wrn's dashboards, as dashboards have no tags."""

ALARM_PER_MONTH, DASHBOARD_PER_MONTH, ECR_PER_GB_MONTH = 0.10, 3.00, 0.10
"""US dollars, us-east-1, from public price lists of 2026; the first 3 dashboards and 10 alarms cost nothing."""


def instance_cost(instance_type: str, count: int) -> float | None:
    """US dollars per hour at bundled prices; None if the type has none."""
    price = bundled_prices().get(instance_type)
    return None if price is None else price.usd_per_hour * count


def tuning_jobs(session: Session) -> Iterator[Resource]:
    request = {"StatusEquals": "InProgress"}
    for entry in session.pages(
        "sagemaker", "ListHyperParameterTuningJobs", "HyperParameterTuningJobSummaries", request
    ):
        running = entry["HyperParameterTuningJobStatus"] == "InProgress"
        if running and is_ours(session, entry["HyperParameterTuningJobArn"]):
            yield Resource("tuning job", entry["HyperParameterTuningJobName"], "its jobs are listed separately")


def endpoints(session: Session) -> Iterator[Resource]:
    for entry in session.pages("sagemaker", "ListEndpoints", "Endpoints"):
        if not is_ours(session, entry["EndpointArn"]):
            continue
        cost: float | None = 0.0
        machines = []
        try:
            told = session.call("sagemaker", "DescribeEndpoint", {"EndpointName": entry["EndpointName"]})
            config = {"EndpointConfigName": told["EndpointConfigName"]}
            for variant in session.call("sagemaker", "DescribeEndpointConfig", config)["ProductionVariants"]:
                if "InstanceType" in variant:  # a serverless one is billed per request
                    count = int(variant.get("InitialInstanceCount", 1))
                    part = instance_cost(variant["InstanceType"], count)
                    cost = None if cost is None or part is None else cost + part
                    machines.append(f"{count} x {variant['InstanceType']}")
        except NotThere:
            cost = None
        detail = f"{', '.join(machines) or 'serverless'}, {entry['EndpointStatus']}"
        yield Resource("endpoint", entry["EndpointName"], detail, per_hour=cost)


def of_sagemaker(session: Session, noun: str, kind: str) -> Iterator[Resource]:
    for entry in session.pages("sagemaker", f"List{noun}s", f"{noun}s"):
        if is_ours(session, entry[f"{noun}Arn"]):
            yield Resource(kind, entry[f"{noun}Name"])


def alarms(session: Session) -> Iterator[Resource]:
    for entry in session.pages("cloudwatch", "DescribeAlarms", "MetricAlarms", {"AlarmNamePrefix": "wrn"}):
        if _tagged(session, "cloudwatch", {"ResourceARN": entry["AlarmArn"]}):
            yield Resource("alarm", entry["AlarmName"], per_month=ALARM_PER_MONTH)


def dashboards(session: Session) -> Iterator[Resource]:
    """The one of this region: dashboards belong to the account, whatever region is asked."""
    name = dashboard_name(session.region)
    try:
        body = session.call("cloudwatch", "GetDashboard", {"DashboardName": name})["DashboardBody"]
    except NotThere:
        return
    if MARK in body:
        yield Resource("dashboard", name, per_month=DASHBOARD_PER_MONTH)


def rules(session: Session) -> Iterator[Resource]:
    for entry in session.pages("events", "ListRules", "Rules", {"NamePrefix": "wrn"}):
        if _tagged(session, "events", {"ResourceARN": entry["Arn"]}):
            yield Resource("event rule", entry["Name"])


def topics(session: Session) -> Iterator[Resource]:
    for entry in session.pages("sns", "ListTopics", "Topics"):
        arn = entry["TopicArn"]
        name = arn.rpartition(":")[2]
        if name.startswith("wrn") and _tagged(session, "sns", {"ResourceArn": arn}):
            yield Resource("topic", name, "with its subscriptions", data={"arn": arn})


def repositories(session: Session) -> Iterator[Resource]:
    for entry in session.pages("ecr", "DescribeRepositories", "repositories"):
        name = entry["repositoryName"]
        if _tagged(session, "ecr", {"resourceArn": entry["repositoryArn"]}, key="tags"):
            try:
                images = list(session.pages("ecr", "DescribeImages", "imageDetails", {"repositoryName": name}))
            except NotThere:
                continue  # removed since it was listed
            size = sum(image.get("imageSizeInBytes", 0) for image in images)
            cost = size / storage.GB * ECR_PER_GB_MONTH
            yield Resource("image repository", name, f"{len(images)} images", bytes=size, per_month=cost)


def budgets(session: Session) -> Iterator[Resource]:
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


def roles(session: Session, unseen: Unseen) -> Iterator[Resource]:
    for entry in session.pages("iam", "ListRoles", "Roles"):
        if "sagemaker.amazonaws.com" not in to_json(entry.get("AssumeRolePolicyDocument", "")):
            continue  # wrn's roles trust SageMaker, and reading the tags of every role takes minutes
        name = {"RoleName": entry["RoleName"]}
        try:
            if not _tagged(session, "iam", name, operation="ListRoleTags"):
                continue
            policies = list(session.pages("iam", "ListRolePolicies", "PolicyNames", name))
        except NotThere:
            continue  # removed since it was listed
        except (Denied, NoAnswer) as error:
            unseen(f"role {entry['RoleName']}", error)
            continue
        places = {policy: place for policy in policies if (place := policy_region(policy))}
        data = {
            "here": [policy for policy, place in places.items() if place == session.region],
            "elsewhere": sorted({*places.values()} - {session.region}),
        }
        yield Resource("role", entry["RoleName"], data=data)


def rights(role: Resource, session: Session) -> Resource:
    """The policies for this region of a role that stays: a role can hold only 10,240 characters of policies."""
    return replace(role, kind="rights of role", detail=f"for jobs in {session.region}")


def unknown(session: Session) -> list[str]:
    """Notes on resources with wrn's tag whose kind is unknown here, so that they are at least reported."""
    known = ("s3", "sagemaker", "ecr", "cloudwatch", "iam", "budgets", "logs", "events", "sns")
    request = {"TagFilters": [{"Key": OWNER_TAG[0], "Values": [OWNER_TAG[1]]}]}
    try:
        found = session.pages("resourcegroupstaggingapi", "GetResources", "ResourceTagMappingList", request)
        return [
            f"{entry['ResourceARN']} has wrn's tag, but this command cannot remove it"
            for entry in found
            if entry["ResourceARN"].split(":")[2] not in known
        ]
    except (Denied, NoAnswer):
        return []


def _tagged(
    session: Session,
    service: str,
    request: dict[str, str],
    *,
    key: str = "Tags",
    operation: str = "ListTagsForResource",
) -> bool:
    """Whether a resource has wrn's tag; False if it was removed since it was listed."""
    try:
        return has_our_tag(session.call(service, operation, request).get(key) or ())
    except NotThere:
        return False
