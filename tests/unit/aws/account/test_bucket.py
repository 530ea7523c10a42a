"""The bucket of a deployment: created, kept, repaired, refused."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.account.bucket import covers, ensure_bucket, merged
from wrn.aws.account.errors import Denied
from wrn.aws.account.policies import bucket_policy
from wrn.aws.account.session import Session
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources.storage import own_buckets
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

OPTIONS = DeployOptions(name="wrn-test-1", account="123456789012", region="eu-west-1")
NAME = "wrn-123456789012-eu-west-1"
READS = {"GetPublicAccessBlock", "GetBucketEncryption", "GetBucketPolicy", "GetBucketLifecycleConfiguration"}


def ensure(options: DeployOptions = OPTIONS, region: str = "eu-west-1") -> tuple[Session, list[str]]:
    session, told = Session(region=region), list[str]()
    ensure_bucket(session, options, told.append, lambda seconds: None)
    return session, told


def operations(session: Session) -> list[str]:
    return [operation for _, operation in session.sent]


def read(session: Session, operation: str) -> dict[str, Any]:
    return session.call("s3", operation, {"Bucket": NAME})


def test_made_once_and_then_only_looked_at(faults: Faults) -> None:
    session, told = ensure()
    assert told == [f"bucket: created {NAME} (private, encrypted, TLS only)"]
    assert set(read(session, "GetPublicAccessBlock")["PublicAccessBlockConfiguration"].values()) == {True}
    assert json.loads(read(session, "GetBucketPolicy")["Policy"]) == bucket_policy(OPTIONS)
    assert read(session, "GetBucketLocation")["LocationConstraint"] == "eu-west-1"
    session, told = ensure()
    assert told == []
    assert set(operations(session)) == {"HeadBucket", "GetBucketTagging", *READS}
    assert len(session.sent) == 6


def test_what_differs_is_set_right_and_what_others_added_stays(faults: Faults) -> None:
    session, _ = ensure()
    session.call("s3", "DeletePublicAccessBlock", {"Bucket": NAME})
    policy = bucket_policy(OPTIONS)
    theirs = {"Sid": "Theirs", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}
    policy["Statement"] = [theirs, *policy["Statement"][1:]]
    session.call("s3", "PutBucketPolicy", {"Bucket": NAME, "Policy": json.dumps(policy)})
    tags = [*read(session, "GetBucketTagging")["TagSet"], {"Key": "team", "Value": "x"}]
    session.call("s3", "PutBucketTagging", {"Bucket": NAME, "Tagging": {"TagSet": tags}})
    session, told = ensure()
    assert [line.partition("differed in ")[2] for line in told] == [
        "its block of public access, which is repaired",
        "its policy, which is repaired",
    ]
    statements = {entry["Sid"] for entry in json.loads(read(session, "GetBucketPolicy")["Policy"])["Statement"]}
    assert statements == {"Theirs", "OnlyTls", "OnlyTls12", "OnlyThisAccount"}
    assert {tag["Key"] for tag in read(session, "GetBucketTagging")["TagSet"]} == {"team", "created-by"}
    assert ensure()[1] == []


def test_an_encryption_that_somebody_chose_stays(faults: Faults) -> None:
    session, _ = ensure()

    def encrypt(**by: str) -> None:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", **by}}
        wanted = {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}
        session.call("s3", "PutBucketEncryption", {"Bucket": NAME, **wanted})

    encrypt()
    assert ensure()[1] == []
    encrypt(KMSMasterKeyID="abc")
    with pytest.raises(AwsError, match="encrypts with a key of your own, which jobs need too: give --kms-key abc"):
        ensure()
    (rule,) = read(session, "GetBucketEncryption")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "abc"
    assert ensure(replace(OPTIONS, kms_key="abc"))[0] is not session


def test_a_cut_in_the_middle_is_made_good(faults: Faults) -> None:
    faults.fail("PutBucketPolicy", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ensure()
    session, told = ensure()
    assert len(told) == 2
    assert read(session, "GetBucketTagging")["TagSet"] == [{"Key": "created-by", "Value": "wrn"}]
    assert json.loads(read(session, "GetBucketPolicy")["Policy"]) == bucket_policy(OPTIONS)


def test_a_bare_one_is_set_up_and_stays_somebody_elses(faults: Faults) -> None:
    """Created beforehand by an administrator, or by a deployment that was cut off before tagging it: unknown. With
    wrn's tag, teardown would remove it, and whatever others put there."""
    faults.fail("PutBucketTagging", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ensure()
    session, told = ensure()
    assert told[0] == f"bucket: {NAME} existed and was bare: it is set up now, and `wrn teardown` will keep it"
    assert json.loads(read(session, "GetBucketPolicy")["Policy"]) == bucket_policy(OPTIONS)
    assert not {"PutBucketTagging", "CreateBucket"} & {*operations(session)}
    assert own_buckets(session, lambda name, error: None) == ([], [])
    assert ensure()[1] == [f"bucket: {NAME} was not created by wrn and is used unchanged"]


@pytest.mark.parametrize("mark", ["tag", "policy", "content"])
def test_one_that_somebody_made_beforehand_is_taken_as_it_is(mark: str, faults: Faults) -> None:
    session, theirs = Session(region="eu-west-1"), json.dumps(bucket_policy(OPTIONS))
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    session.call("s3", "CreateBucket", {"Bucket": NAME, **place})
    tags = {"TagSet": [{"Key": "team", "Value": "x"}]}
    if mark == "tag":
        session.call("s3", "PutBucketTagging", {"Bucket": NAME, "Tagging": tags})
    elif mark == "policy":
        session.call("s3", "PutBucketPolicy", {"Bucket": NAME, "Policy": theirs})
    else:
        session.call("s3", "PutObject", {"Bucket": NAME, "Key": "k", "Body": b"x"})
    session, told = ensure()
    assert told == [f"bucket: {NAME} was not created by wrn and is used unchanged"]
    assert not [operation for operation in operations(session) if operation.startswith("Put")]


@pytest.mark.parametrize("denied", ["CreateBucket", "PutPublicAccessBlock"])
def test_what_the_organisation_denies(denied: str, faults: Faults) -> None:
    faults.refuse(denied, "AccessDenied", "with an explicit deny in a service control policy", status=403)
    with pytest.raises(Denied, match=r"service control policy .*; or give an existing bucket as --bucket$"):
        ensure()


def test_someone_elses(faults: Faults) -> None:
    faults.refuse("HeadBucket", "403", status=403)
    with pytest.raises(AwsError, match=r"^bucket: wrn-\S+ belongs to another account, or denies .* --bucket$"):
        ensure()
    # It did not exist a moment ago, and then it belonged to someone else.
    faults.refuse("HeadBucket", "404", status=404)
    faults.refuse("HeadBucket", "403", status=403)
    faults.refuse("CreateBucket", "BucketAlreadyExists", status=409)
    with pytest.raises(AwsError, match="belongs to another account"):
        ensure()


def test_one_that_was_named_is_taken_as_it_is(faults: Faults) -> None:
    mine = replace(OPTIONS, bucket="mine")
    with pytest.raises(AwsError, match="there is no mine; create it, or leave out --bucket"):
        ensure(mine)
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    Session(region="eu-west-1").call("s3", "CreateBucket", {"Bucket": "mine", **place})
    session, told = ensure(mine)
    assert (operations(session), told) == (["HeadBucket", "GetBucketEncryption"], [])
    with pytest.raises(AwsError, match=r"mine is in eu-west-1.*its own region, us-east-1; give --region eu-west-1"):
        ensure(replace(mine, region="us-east-1"), "us-east-1")


def test_one_that_was_named_and_encrypts_by_a_key(faults: Faults) -> None:
    """Otherwise a job would start, be billed, and neither read nor write."""
    mine = replace(OPTIONS, bucket="mine")
    session = Session(region="eu-west-1")
    place = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
    session.call("s3", "CreateBucket", {"Bucket": "mine", **place})

    def encrypt(key: str) -> None:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
        wanted = {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}
        session.call("s3", "PutBucketEncryption", {"Bucket": "mine", **wanted})

    encrypt("abc")
    with pytest.raises(
        AwsError, match=r"mine encrypts with a key of your own, which jobs need too: give --kms-key abc$"
    ):
        ensure(mine)
    role = "arn:aws:iam::123456789012:role/theirs"
    for known in (replace(mine, kms_key="abc"), replace(mine, role_arn=role)):
        assert operations(ensure(known)[0]) == ["HeadBucket"]
    faults.refuse("GetBucketEncryption", "AccessDenied", status=403)
    assert ensure(mine)[1] == []
    encrypt("alias/ours")
    with pytest.raises(AwsError, match=r"give the id or the ARN of alias/ours as --kms-key$"):
        ensure(mine)
    encrypt("alias/aws/s3")
    ensure(mine)


def test_another_deployment_at_the_same_moment(faults: Faults) -> None:
    ensure()
    faults.refuse("HeadBucket", "404", status=404)  # created between the look and the attempt
    faults.refuse("CreateBucket", "BucketAlreadyOwnedByYou", status=409)
    faults.refuse("PutBucketPolicy", "OperationAborted", "A conflicting operation is in progress", status=409, times=3)
    ensure()
    assert faults.planned["PutBucketPolicy"] == []
    faults.refuse("HeadBucket", "404", status=404)
    faults.refuse("CreateBucket", "OperationAborted", status=409, times=99)
    with pytest.raises(AwsError, match=r"OperationAborted\); try again in a minute"):
        ensure()


def test_two_at_once(faults: Faults) -> None:
    errors = []

    def run() -> None:
        try:
            ensure()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ensure()[1] == []


ENTRIES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)).map(
    lambda tags: [{"ID": key, "Value": value} for key, value in tags.items()]
)


@given(ENTRIES, ENTRIES)
def test_what_is_merged_has_all_that_is_wanted_and_all_that_was_someone_elses(
    there: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    whole = merged({"Rules": there}, {"Rules": wanted})
    assert covers(whole, {"Rules": wanted})
    assert {entry["ID"] for entry in whole["Rules"]} == {entry["ID"] for entry in [*there, *wanted]}
    assert merged(whole, {"Rules": wanted}) == whole


def test_what_covers_what() -> None:
    assert covers({"a": 1, "b": [1, {"c": 2, "d": 3}]}, {"b": [{"c": 2}]})
    assert not covers({"b": [{"c": 3}]}, {"b": [{"c": 2}]})
    assert not covers({}, {"a": None})
    assert merged({"Rules": [{"ID": "a", "Value": "old"}, {"ID": "b"}]}, {"Rules": [{"ID": "a"}]}) == {
        "Rules": [{"ID": "a"}, {"ID": "b"}]
    }
