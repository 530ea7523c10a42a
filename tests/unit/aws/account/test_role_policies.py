"""The policies of the role and the bucket: least privilege, and nothing open to others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from wrn.aws.account.policies import (
    bucket_encryption,
    bucket_lifecycle,
    bucket_policy,
    key_arn,
    role_policy,
    trust_policy,
)
from wrn.aws.jobs.calls import calls_of
from wrn.aws.jobs.options import DeployOptions
from wrn.config.layers import resolve
from wrn.errors import AwsError

OPTIONS = DeployOptions(name="a-job", account="111122223333", region="eu-west-1")
FULL = replace(OPTIONS, subnets=("subnet-1",), security_groups=("sg-1",), kms_key="abc", data_uri="s3://mine/cifar/")
BUCKET = "arn:aws:s3:::wrn-111122223333-eu-west-1"


def by_name(document: dict[str, Any]) -> dict[str, Any]:
    assert document["Version"] == "2012-10-17"
    found = {statement["Sid"]: statement for statement in document["Statement"]}
    assert len(found) == len(document["Statement"])
    return found


def test_only_sagemaker_for_this_account_takes_the_role() -> None:
    (statement,) = by_name(trust_policy("111122223333")).values()
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "111122223333"}}


@pytest.mark.parametrize("options", [OPTIONS, FULL])
def test_the_role_has_no_wildcards_but_where_aws_knows_no_better(options: DeployOptions) -> None:
    for name, statement in by_name(role_policy(options)).items():
        assert not any(action == "*" or action.endswith(":*") for action in statement["Action"])
        if "*" in statement["Resource"]:
            assert name in ("PublishMetrics", "LogInToRegistry", "SeeNetwork")
    assert "Condition" in by_name(role_policy(options))["PublishMetrics"]


def test_what_the_role_may_do() -> None:
    rights = by_name(role_policy(OPTIONS))
    assert rights["ReadCodeAndData"]["Resource"] == [
        f"{BUCKET}/wrn/{name}/*" for name in ("code", "data", "checkpoints")
    ]
    assert rights["WriteResults"]["Resource"] == [f"{BUCKET}/wrn/{name}/*" for name in ("checkpoints", "output")]
    assert rights["PruneCheckpoints"]["Resource"] == [f"{BUCKET}/wrn/checkpoints/*"]
    assert rights["PullImage"]["Resource"] == ["arn:aws:ecr:eu-west-1:763104351884:repository/pytorch"]
    assert not {"JoinNetwork", "UseKey", "ReadGivenData"} & set(rights)
    actions = {action for statement in rights.values() for action in statement["Action"]}
    assert not any(action.startswith(("iam:", "sts:", "sagemaker:")) for action in actions)


def test_a_bucket_of_our_name_that_is_anothers_is_nothing_for_the_role() -> None:
    """Anyone can take the name once wrn's bucket is removed; a given one may belong to another account anyway."""
    theirs = ("ReadCodeAndData", "WriteResults", "PruneCheckpoints", "ListOurPart", "FindBucket")
    rights = by_name(role_policy(OPTIONS))
    for name in theirs:
        assert rights[name]["Condition"]["StringEquals"] == {"aws:ResourceAccount": "111122223333"}
    assert rights["ListOurPart"]["Condition"]["StringLike"] == {"s3:prefix": ["wrn/*"]}
    on_buckets = {name for name, entry in rights.items() if any(right.startswith("s3:") for right in entry["Action"])}
    assert on_buckets == set(theirs)
    given = by_name(role_policy(replace(OPTIONS, bucket="mine")))
    assert not any("StringEquals" in given[name].get("Condition", {}) for name in theirs)


def test_what_options_add_to_the_role() -> None:
    rights = by_name(role_policy(FULL))
    assert rights["UseKey"]["Resource"] == ["arn:aws:kms:eu-west-1:111122223333:key/abc"]
    assert rights["LendKeyToDisks"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert "arn:aws:ec2:eu-west-1:111122223333:subnet/subnet-1" in rights["JoinNetwork"]["Resource"]
    assert rights["ReadGivenData"]["Resource"] == ["arn:aws:s3:::mine/cifar/*"]
    assert rights["ListGivenData"]["Condition"] == {"StringLike": {"s3:prefix": ["cifar*"]}}
    public = replace(OPTIONS, image_uri="public.ecr.aws/deep-learning-containers/pytorch:2.12")
    assert "PullImage" not in by_name(role_policy(public))


def test_other_partitions() -> None:
    china = replace(OPTIONS, region="cn-north-1", image_uri="1.example/x")
    assert by_name(role_policy(china))["FindBucket"]["Resource"] == ["arn:aws-cn:s3:::wrn-111122223333-cn-north-1"]


def test_the_bucket_is_private_encrypted_and_tls_only() -> None:
    rules = by_name(bucket_policy(OPTIONS))
    assert all(rule["Effect"] == "Deny" and rule["Resource"] == [BUCKET, f"{BUCKET}/*"] for rule in rules.values())
    assert rules["OnlyTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert rules["OnlyThisAccount"]["Condition"]["StringNotEquals"] == {"aws:PrincipalAccount": "111122223333"}
    (plain,) = bucket_encryption(OPTIONS)["Rules"]
    assert plain["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (own,) = bucket_encryption(FULL)["Rules"]
    assert own["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].endswith(":key/abc")
    assert bucket_lifecycle()["Rules"][0]["Filter"] == {"Prefix": "wrn/checkpoints/"}


@pytest.mark.parametrize("key", ["alias/mine", "arn:aws:kms:eu-west-1:111122223333:alias/mine", "a b"])
def test_a_key_that_no_policy_can_name(key: str) -> None:
    with pytest.raises(AwsError, match="give its id or its ARN"):
        key_arn(replace(OPTIONS, kms_key=key))


def test_the_plan_makes_what_was_not_named_and_every_call_is_valid() -> None:
    pytest.importorskip("botocore", reason="needs the extra aws")
    config = resolve(None, {}).config
    calls = calls_of(config, config, "standard", FULL)
    assert [call.operation for call in calls] == [
        "CreateBucket",
        "PutBucketTagging",
        "PutPublicAccessBlock",
        "PutBucketEncryption",
        "PutBucketPolicy",
        "PutBucketLifecycleConfiguration",
        "CreateRole",
        "PutRolePolicy",
        "CreateTrainingJob",
    ]
    assert calls[0].request["CreateBucketConfiguration"] == {"LocationConstraint": "eu-west-1"}
    assert set(calls[2].request["PublicAccessBlockConfiguration"].values()) == {True}
    assert json.loads(calls[7].request["PolicyDocument"]) == role_policy(FULL)
    assert len(calls[7].request["PolicyDocument"]) < 10_240  # of all policies inside a role
    named = replace(OPTIONS, bucket="mine", role_arn="arn:aws:iam::111122223333:role/theirs")
    assert [call.operation for call in calls_of(config, config, "standard", named)] == ["CreateTrainingJob"]
    with pytest.raises(AwsError, match=r"(?s)RoleArn: .*InstanceType: "):
        calls_of(config, config, "standard", replace(named, role_arn="x", instance_type="ml.x"))
