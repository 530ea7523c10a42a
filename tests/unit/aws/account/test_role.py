"""The role of training jobs: created, kept, repaired; roles of others are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from wrn.aws.account import role as role_module
from wrn.aws.account.errors import LimitReached
from wrn.aws.account.policies import role_policy, trust_policy
from wrn.aws.account.role import ensure_role
from wrn.aws.account.session import Session
from wrn.aws.jobs.calls import OWNER
from wrn.aws.jobs.options import DeployOptions, policy_name
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

OPTIONS = DeployOptions(name="wrn-test-1", account="123456789012", region="eu-west-1")
TRUST = trust_policy("123456789012")


@pytest.fixture(autouse=True)
def _nothing_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_module, "FRESH_SECONDS", -1)


def ensure(options: DeployOptions = OPTIONS) -> tuple[Session, bool, list[str]]:
    session, told = Session(region=options.region), list[str]()
    role = ensure_role(session, options, told.append, lambda seconds: None)
    return session, role.fresh, told


def rights(session: Session, options: DeployOptions = OPTIONS) -> Any:
    name = {"RoleName": options.role_name, "PolicyName": policy_name(options)}
    return session.call("iam", "GetRolePolicy", name)["PolicyDocument"]


def test_made_once_and_then_only_looked_at(faults: Faults) -> None:
    session, fresh, told = ensure()
    assert (fresh, told) == (True, ["role: created wrn-training"])
    assert rights(session) == role_policy(OPTIONS)
    session, fresh, told = ensure()
    assert (fresh, told) == (False, [])
    assert session.sent == [("iam", "GetRole"), ("iam", "GetRolePolicy")]


def test_rights_that_differ_are_replaced(faults: Faults) -> None:
    session, _, _ = ensure()
    wide = role_policy(OPTIONS)
    wide["Statement"].append({"Sid": "More", "Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]})
    name = {"RoleName": "wrn-training", "PolicyName": policy_name(OPTIONS)}
    session.call("iam", "PutRolePolicy", {**name, "PolicyDocument": json.dumps(wide)})
    session, fresh, told = ensure()
    assert (fresh, told) == (True, ["role: set the permissions of wrn-training for this deployment"])
    assert rights(session) == role_policy(OPTIONS)
    assert ensure(replace(OPTIONS, data_uri="s3://theirs/cifar"))[1], "permissions of another kind propagate no faster"
    assert not ensure()[1]


def test_a_deployment_elsewhere_leaves_the_rights_of_a_running_job(faults: Faults) -> None:
    ensure()
    ensure(replace(OPTIONS, region="us-west-2"))
    session, _, _ = ensure(replace(OPTIONS, data_uri="s3://theirs/cifar"))
    assert rights(session) == role_policy(OPTIONS)
    names = session.call("iam", "ListRolePolicies", {"RoleName": "wrn-training"})["PolicyNames"]
    assert len(names) == 3
    assert policy_name(OPTIONS) == "wrn-training-eu-west-1"
    others = ({"bucket": "mine"}, {"kms_key": "abc"}, {"instance_type": "ml.p3.2xlarge"}, {"image_uri": "a.b/c:d"})
    assert len({policy_name(replace(OPTIONS, **other)) for other in ({}, {"spot": True}, *others)}) == 5


def test_trust_is_mended(faults: Faults) -> None:
    session, _, _ = ensure()
    other = json.dumps(trust_policy("123456789012")).replace("sagemaker", "lambda")
    session.call("iam", "UpdateAssumeRolePolicy", {"RoleName": "wrn-training", "PolicyDocument": other})
    session, fresh, _ = ensure()
    assert fresh
    role = session.call("iam", "GetRole", {"RoleName": "wrn-training"})["Role"]
    assert role["AssumeRolePolicyDocument"] == trust_policy("123456789012")


def test_full_access_only_when_asked(faults: Faults) -> None:
    session, _, _ = ensure()
    assert ("iam", "AttachRolePolicy") not in session.sent
    # moto does not know AWS's own policies unless asked to.
    faults.refuse("AttachRolePolicy", "AccessDenied", "not authorized", status=403)
    with pytest.raises(AwsError, match=r"AttachRolePolicy: .*--role-arn"):
        ensure(replace(OPTIONS, full_access=True))


def test_roles_of_others(faults: Faults) -> None:
    session = Session(region="eu-west-1")
    trust = json.dumps(trust_policy("123456789012"))
    session.call("iam", "CreateRole", {"RoleName": "theirs", "AssumeRolePolicyDocument": trust})
    session, fresh, told = ensure(replace(OPTIONS, role_name="theirs"))
    assert (fresh, told) == (False, ["role: theirs was not created by wrn and is used unchanged"])
    assert session.sent == [("iam", "GetRole")]
    other = trust.replace("sagemaker", "lambda")
    session.call("iam", "CreateRole", {"RoleName": "lambdas", "AssumeRolePolicyDocument": other})
    with pytest.raises(AwsError, match=r"does not trust sagemaker.amazonaws.com; give another --role-name"):
        ensure(replace(OPTIONS, role_name="lambdas"))
    named = replace(OPTIONS, role_arn="arn:aws:iam::123456789012:role/theirs")
    assert ensure(named)[0].sent == []


@pytest.mark.parametrize("ours", [True, False])
def test_the_path_of_a_role_is_part_of_its_arn(ours: bool, faults: Faults) -> None:
    """As of those that SageMaker's console creates."""
    session, name = Session(region=OPTIONS.region), "AmazonSageMaker-ExecutionRole-1"
    request = {"RoleName": name, "Path": "/service-role/", "AssumeRolePolicyDocument": json.dumps(TRUST)}
    session.call("iam", "CreateRole", {**request, "Tags": OWNER if ours else []})
    arn = ensure_role(session, replace(OPTIONS, role_name=name), lambda text: None).arn
    assert arn == f"arn:aws:iam::123456789012:role/service-role/{name}"


def test_the_arn_of_a_new_role_and_of_a_given_one(faults: Faults) -> None:
    session = Session(region=OPTIONS.region)
    assert ensure_role(session, OPTIONS, lambda text: None).arn == "arn:aws:iam::123456789012:role/wrn-training"
    given = replace(OPTIONS, role_arn="arn:aws:iam::123456789012:role/a/b")
    assert ensure_role(session, given, lambda text: None).arn == given.role_arn


def test_another_deployment_was_quicker(faults: Faults) -> None:
    ensure()
    faults.refuse("GetRole", "NoSuchEntity", status=404)
    faults.refuse("CreateRole", "EntityAlreadyExists", status=409)
    session, fresh, told = ensure()
    assert (fresh, told) == (True, [])
    assert rights(session) == role_policy(OPTIONS)


def test_without_the_right_to_make_one(faults: Faults) -> None:
    faults.refuse("CreateRole", "AccessDenied", "User is not authorized to perform: iam:CreateRole", status=403)
    with pytest.raises(AwsError, match=r"iam:CreateRole .*; or give an existing role as --role-arn"):
        ensure()


def test_a_role_that_is_full(faults: Faults) -> None:
    ensure()
    elsewhere = replace(OPTIONS, bucket="mine")
    faults.refuse("PutRolePolicy", "LimitExceeded", "Maximum policy size of 10240 bytes exceeded", status=409)
    with pytest.raises(LimitReached, match=r"has no room for more policies: .* or give another --role-name"):
        ensure(elsewhere)
