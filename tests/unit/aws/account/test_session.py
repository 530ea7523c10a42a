"""Access to AWS: counting requests, and the exception for each error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wrn.aws.account import errors as kinds
from wrn.aws.account.names import user_of
from wrn.aws.account.session import Session, configured_region, snake_case
from wrn.aws.s3.upload import AT_A_TIME, FILES_AT_A_TIME
from wrn.errors import AwsError

if TYPE_CHECKING:
    from pathlib import Path

    from mocked_aws import Faults

JOB = {"TrainingJobName": "x"}


def test_each_attempt_is_counted_in_all_regions(faults: Faults) -> None:
    session = Session(region="us-east-1")
    faults.refuse("GetCallerIdentity", "Throttling", times=2)
    assert session.account == "123456789012"
    other = session.in_region("eu-west-1")
    assert other.in_region("eu-west-1") is other
    list(other.pages("s3", "ListBuckets", "Buckets"))
    assert session.sent == [("sts", "GetCallerIdentity")] * 3 + [("s3", "ListBuckets")]


def test_connections_stay_open_for_all_that_is_sent_at_a_time(faults: Faults) -> None:
    config = Session(region="us-east-1").client("s3").meta.config
    assert config.max_pool_connections >= max(FILES_AT_A_TIME, AT_A_TIME)


@pytest.mark.parametrize(
    ("arn", "user"),
    [
        ("arn:aws:iam::123456789012:user/team/anna", "anna"),
        ("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Dev_0a1b/anna@example.org", "anna@example.org"),
        ("arn:aws:sts::123456789012:assumed-role/deployer/botocore-session-1764300000", "deployer"),
        ("arn:aws:sts::123456789012:assumed-role/deployer/i-0123456789abcdef0", "i-0123456789abcdef0"),
        ("arn:aws:iam::123456789012:root", "root"),
        ("arn:aws:iam::123456789012:user/a,b", "a_b"),
    ],
)
def test_who_it_is_as_a_tag_may_say_it(arn: str, user: str) -> None:
    assert user_of(arn) == user
    assert len(user_of(f"arn:aws:iam::123456789012:user/{'x' * 300}")) == 256


@pytest.mark.parametrize(
    ("code", "message", "kind", "words"),
    [
        ("ThrottlingException", "Rate exceeded", kinds.Throttled, "try again in a minute"),
        ("ExpiredTokenException", "The security token is expired", kinds.CredentialsRefused, "log in again"),
        (
            "UnrecognizedClientException",
            "The security token is invalid",
            kinds.CredentialsRefused,
            "--profile, or a region",
        ),
        (
            "InvalidSignatureException",
            "Signature expired: 2 is now earlier than 3",
            AwsError,
            "set this machine's clock",
        ),
        ("InvalidSignatureException", "Signature not yet current: 3", AwsError, "set this machine's clock"),
        ("InvalidSignatureException", "The request signature does not match", kinds.CredentialsRefused, "log in again"),
        ("ForbiddenException", "No access", kinds.Denied, "administrator"),
        ("AccessDeniedException", "User is not authorized", kinds.Denied, "administrator"),
        ("ResourceLimitExceeded", "limit is 0 Instances", kinds.QuotaReached, "--fallback"),
        ("LimitExceeded", "limit is 0 Instances", kinds.QuotaReached, "--fallback"),
        ("AuthorizationError", "not authorized", kinds.Denied, "administrator"),
        ("ResourceInUse", "exists", kinds.NameInUse, "--name"),
        ("ValidationException", "Requested resource not found.", kinds.NotThere, "check the name"),
        ("ValidationException", "Could not assume role arn:aws:iam::1:role/r. Please", kinds.RoleNotReady, "new"),
        ("ValidationException", "The value is odd", AwsError, r"CreateTrainingJob: The value is odd \(Valid"),
    ],
)
def test_refusals_are_sentences_of_their_kind(
    code: str, message: str, kind: type[Exception], words: str, faults: Faults
) -> None:
    faults.refuse("CreateTrainingJob", code, message, times=9)
    job = {
        **JOB,
        "RoleArn": "arn:aws:iam::123456789012:role/r",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/x"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    with pytest.raises(kind, match=words) as caught:
        Session(region="us-east-1").call("sagemaker", "CreateTrainingJob", job)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_limit_of_anything_but_machines_is_no_reason_to_try_another_machine(faults: Faults) -> None:
    faults.refuse("GetRole", "LimitExceeded", "Maximum policy size of 10240 bytes exceeded")
    with pytest.raises(kinds.LimitReached, match="remove what is no longer needed"):
        Session(region="us-east-1").call("iam", "GetRole", {"RoleName": "r"})


class Answer(Exception):
    """As botocore's ClientError holds it."""

    def __init__(self, status: int, code: str) -> None:
        self.response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize(("status", "code"), [(500, "InternalFailure"), (503, "ServiceUnavailable"), (502, "502")])
def test_a_fault_of_the_service_leaves_open_whether_it_was_done(status: int, code: str) -> None:
    assert type(kinds.explain(Answer(status, code), "CreateTrainingJob")) is kinds.NoAnswer
    assert type(kinds.explain(Answer(400, code), "CreateTrainingJob")) is AwsError
    assert type(kinds.explain(Answer(503, "SlowDown"), "PutObject")) is kinds.Throttled


def test_every_way_of_having_to_log_in_again() -> None:
    from botocore import exceptions

    logins = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and "Login" in kind.__name__]
    logins += [exceptions.UnauthorizedSSOTokenError, exceptions.SSOTokenLoadError]
    logins += [exceptions.InvalidConfigError, exceptions.InfiniteLoopConfigError, exceptions.UnknownCredentialError]
    for kind in logins:
        assert type(kinds.explain(kind.__new__(kind), "GetRole")) is kinds.NoCredentials  # type: ignore[call-overload]


def test_a_wrong_clock_and_a_bug(faults: Faults) -> None:
    session = Session(region="us-east-1")
    faults.refuse("GetCallerIdentity", "RequestTimeTooSkewed", "The difference is too large", status=403)
    with pytest.raises(AwsError, match="set this machine's clock"):
        session.call("sts", "GetCallerIdentity")
    with pytest.raises(Exception, match="Unknown parameter") as caught:
        session.call("sts", "GetCallerIdentity", {"Nonsense": 1})
    assert not isinstance(caught.value, AwsError)


def test_without_credentials(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(kinds.NoCredentials, match="aws configure"):
        _ = Session(region="us-east-1").account
    with pytest.raises(
        kinds.NoCredentials, match=r"there is no nobody in .*, nor any other; create one with `aws configure`"
    ):
        Session(region="us-east-1", profile="nobody")


def test_the_region_that_is_configured(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_region() is None
    (tmp_path / "config").write_text("[default]\n[profile mine]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert configured_region("mine") == "eu-west-3"
    with pytest.raises(
        kinds.NoCredentials, match=r"^profile: there is no nobody in AWS's .*; there are default, mine$"
    ):
        configured_region("nobody")
    with pytest.raises(
        kinds.NoCredentials, match=r"there is no min in .*; did you mean mine\?; there are default, mine$"
    ):
        Session(region="us-east-1", profile="min")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert configured_region("mine") == "eu-north-1"


def test_names_of_methods() -> None:
    assert [snake_case(name) for name in ("CreateTrainingJob", "ListObjectsV2", "GetAWSDefaultServiceQuota")] == [
        "create_training_job",
        "list_objects_v2",
        "get_aws_default_service_quota",
    ]
