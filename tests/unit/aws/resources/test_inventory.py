"""What wrn created, and what disappears during the inventory, in every partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fake_account import ACCOUNT, OWNER, REGION, client, make_bucket, make_endpoint, make_job, make_role
from wrn.aws.account.deploy_permissions import deployer_policy
from wrn.aws.account.notifications import Notices
from wrn.aws.account.session import Session
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources.inventory import take_inventory
from wrn.aws.resources.kinds import budgets
from wrn.aws.resources.permissions import clearing_policy
from wrn.aws.resources.resource import Resource
from wrn.cli import main

if TYPE_CHECKING:
    from mocked_aws import Faults


def make_rule() -> None:
    client("events").put_rule(Name="wrn-jobs", EventPattern='{"source": ["aws.sagemaker"]}', Tags=OWNER)


def make_budget() -> None:
    limit = {"Amount": "7", "Unit": "USD"}
    budget = {"BudgetName": "wrn-sagemaker", "BudgetLimit": limit, "TimeUnit": "MONTHLY", "BudgetType": "COST"}
    client("budgets").create_budget(AccountId=ACCOUNT, Budget=budget)


MAKERS: dict[str, Callable[[], Any]] = {
    "event rule": make_rule,
    "topic": lambda: client("sns").create_topic(Name="wrn-jobs", Tags=OWNER),
    "image repository": lambda: client("ecr").create_repository(repositoryName="wrn", tags=OWNER),
    "budget": make_budget,
    "role": lambda: make_role("wrn-training", ours=True),
    "endpoint": lambda: make_endpoint("wrn-endpoint", ours=True),
    "bucket": lambda: make_bucket("wrn-x", ours=True),
}


@pytest.mark.parametrize(
    ("kind", "operation", "code", "message"),
    [
        ("event rule", "ListTagsForResource", "ResourceNotFoundException", "no"),
        ("topic", "ListTagsForResource", "NotFound", "no"),
        ("image repository", "ListTagsForResource", "RepositoryNotFoundException", "no"),
        ("image repository", "DescribeImages", "RepositoryNotFoundException", "no"),
        ("budget", "ListTagsForResource", "NotFoundException", "no"),
        ("role", "ListRoleTags", "NoSuchEntity", "no"),
        ("role", "ListRolePolicies", "NoSuchEntity", "no"),
        ("endpoint", "ListTags", "ValidationException", "Could not find endpoint"),
        ("bucket", "GetBucketTagging", "NoSuchBucket", "no"),
    ],
)
def test_what_goes_while_it_is_looked_at_is_gone(
    kind: str, operation: str, code: str, message: str, faults: Faults
) -> None:
    """Between the listing and the reading of its tags, or of what is in it."""
    MAKERS[kind]()

    def kinds() -> set[str]:
        found = take_inventory(Session(region=REGION))
        assert found.notes == []
        return {resource.kind for resource in found.resources}

    before = kinds()
    assert kind in before
    faults.refuse(operation, code, message, status=404)
    assert kinds() == before - {kind}
    assert faults.planned[operation] == [], "it was asked for"


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_a_budget_has_the_name_of_its_partition(region: str, partition: str) -> None:
    asked = []

    class OneBudget:
        account = ACCOUNT

        def pages(self, *_: Any) -> Iterator[Any]:
            return iter([{"BudgetName": "wrn-sagemaker"}, {"BudgetName": "theirs"}])

        def call(self, service: str, operation: str, request: dict[str, str]) -> dict[str, Any]:
            asked.append((service, operation, request))
            return {"ResourceTags": OWNER}

    session: Any = OneBudget()
    session.region = region
    assert list(budgets(session)) == [Resource("budget", "wrn-sagemaker")]
    arn = f"arn:{partition}:budgets::{ACCOUNT}:budget/wrn-sagemaker"
    assert asked == [("budgets", "ListTagsForResource", {"ResourceARN": arn})]
    place = DeployOptions(name="any", account=ACCOUNT, region=region)
    for policy, sid, wanted in (
        (deployer_policy([place], Notices(alarms=True)), "Budget", arn),
        (clearing_policy([place]), "DeleteBudget", arn.replace("wrn-sagemaker", "wrn*")),
    ):
        (statement,) = [entry for entry in policy["Statement"] if entry["Sid"] == sid]
        assert statement["Resource"] == [wanted]
        names = [name for entry in policy["Statement"] for name in entry["Resource"]]
        assert {name.split(":")[1] for name in names if name != "*"} == {partition}


def test_one_refused_bucket_hides_no_other(faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    """An old job wrote to a bucket that the caller may not list: wrn's own goes, but the result is incomplete."""
    make_bucket("wrn-x", ours=True)
    make_bucket("theirs", ours=False)
    make_job("wrn-a", "theirs")
    faults.refuse("ListObjectVersions", "AccessDenied", "not you", status=403)  # "wrn-x" comes first, and is empty
    found = take_inventory(Session(region=REGION))
    assert (found.missed, [resource.kind for resource in found.resources]) == (["buckets"], [])
    assert found.notes[0].startswith("bucket wrn-x could not be inspected: ListObjectVersions: not you (AccessDenied)")
    faults.planned["ListObjectVersions"] = list(THEIRS_REFUSED)
    assert main(["teardown", "--yes", "--records", "--region", REGION]) == 0
    told = capsys.readouterr().err
    assert "note: bucket theirs could not be inspected: ListObjectVersions: not you" in told
    assert "note: the records of jobs stay: buckets are found through them, see above" in told
    assert "removed bucket wrn-x" in told
    assert told.endswith("everything visible was removed; see the notes\n")
    faults.refuse("ListObjectVersions", "AccessDenied", "not you", status=403, times=2)
    assert main(["costs", "--region", REGION]) == 0
    assert capsys.readouterr().out == (f"no visible wrn resource costs money in account {ACCOUNT}, {REGION}\n")
    assert main(["teardown", "--region", REGION]) == 0
    assert f"no visible wrn resources in account {ACCOUNT}" in capsys.readouterr().err


THEIRS_REFUSED = [
    *(None, (403, "AccessDenied", "not you")),  # the first look: at wrn-x, at theirs
    *(None, (403, "AccessDenied", "not you")),  # emptying wrn-x, and the second look: at theirs alone
]


def test_one_refused_role_hides_no_other(faults: Faults) -> None:
    for name in ("wrn-one", "wrn-two"):
        make_role(name, ours=True)
    hidden, seen = [role["RoleName"] for role in client("iam").list_roles()["Roles"]]
    faults.refuse("ListRolePolicies", "AccessDenied", "not you", status=403)
    found = take_inventory(Session(region=REGION))
    assert [resource.name for resource in found.resources if resource.kind == "role"] == [seen]
    assert found.notes == [
        f"role {hidden} could not be inspected: ListRolePolicies: not you (AccessDenied); ask the account's "
        "administrator for this permission"
    ]
    assert found.missed == ["roles"]
