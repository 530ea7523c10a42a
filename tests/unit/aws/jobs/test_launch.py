"""Launching a job: what is put in place first, what is waited for, and what is tried if there is no capacity."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError

from data_files import accept_stand_ins, write_archive, write_pictures
from wrn.aws.account.errors import (
    Denied,
    NameInUse,
    NoAnswer,
    NoCapacity,
    NoCredentials,
    QuotaReached,
    RoleNotReady,
    Throttled,
)
from wrn.aws.account.notifications import Notices
from wrn.aws.account.policies import trust_policy
from wrn.aws.account.session import Session
from wrn.aws.jobs.capacity import choices, read_fallback
from wrn.aws.jobs.launch import Launch, Launched, Order, Patience, with_key
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.s3.code_archive import Bundle
from wrn.aws.s3.dataset_files import Parcel, find_parcel
from wrn.config.layers import resolve
from wrn.errors import AwsError, DataError

if TYPE_CHECKING:
    from mocked_aws import Faults

CODE = Bundle(b"code", ("src/train.py",))
OPTIONS = DeployOptions(
    name="job",
    account="123456789012",
    region="eu-west-1",
    code_name=CODE.name,
    instance_type="ml.g5.xlarge",
    price_per_hour=1.408,
)
STARTING = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
TRAINING = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}
NO_CAPACITY = {
    "TrainingJobStatus": "Failed",
    "SecondaryStatus": "Failed",
    "FailureReason": "CapacityError: Unable to provision requested ML compute capacity.",
}


@dataclass
class Clock:
    """Time that passes only by waiting."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


def launch(options: DeployOptions = OPTIONS, fallback: str = "", **more: Any) -> tuple[Launch, Clock, list[str]]:
    patience = more.pop("patience", Patience())
    config = more.pop("config", resolve(None, {"dataset": "synthetic"}).config)
    read = read_fallback(fallback) if fallback else ()
    order = Order(
        config=config,
        base=resolve(None, {}).config,
        recipe="standard",
        options=with_key(options, more.get("data")),
        code=CODE,
        choices=choices(options, read, on_demand=patience.on_demand_after is not None),
        patience=patience,
        **more,
    )
    clock, told = Clock(), list[str]()
    session = Session(region=options.region)
    return Launch(session, order, told.append, None, clock.sleep, clock), clock, told


def job(launched: Launched) -> dict[str, Any]:
    return launched.session.call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": launched.name})


def test_all_that_a_job_needs_and_then_the_job(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_stand_ins(monkeypatch)
    config = resolve(None, {}).config
    path = write_archive(tmp_path, "cifar-100-python")
    order, _, told = launch(config=config, data=find_parcel(config, [tmp_path]))
    launched = order.run()
    assert [line.partition(":")[0] for line in told] == ["bucket", "role", "data"]
    code, data = (channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in job(launched)["InputDataConfig"])
    for uri, name, content in ((code, CODE.name, b"code"), (data, path.name, path.read_bytes())):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        listed = launched.session.call("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": key})["Contents"]
        assert [entry["Key"] for entry in listed] == [key + name]
        stored = launched.session.call("s3", "GetObject", {"Bucket": bucket, "Key": key + name})
        assert stored["Body"].read() == content
    again, _, told = launch(replace(OPTIONS, name="again"), config=config, data=order.order.data)
    again.run()
    assert told == []
    assert len(again.session.sent) == 11
    assert not {"PutObject", "CreateMultipartUpload", "CreateBucket", "PutRolePolicy", "ListServiceQuotas"} & {
        operation for _, operation in again.session.sent
    }


def test_pictures_have_the_same_layout_in_the_channel(faults: Faults, tmp_path: Path) -> None:
    config = resolve(None, {"dataset": "folder", "data_dir": str(write_pictures(tmp_path))}).config
    order, _, _ = launch(config=config, data=find_parcel(config, []))
    launched = order.run()
    uri = job(launched)["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    listed = launched.session.call("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": key})["Contents"]
    wanted = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert {entry["Key"].removeprefix(key) for entry in listed} == wanted


def test_throttled_at_every_third_request(faults: Faults) -> None:
    faults.every = 3
    order, _, _ = launch(fallback="g6.xlarge", notices=Notices("me@example.com", alarms=True))
    assert order.run().name == "job"
    assert len(order.session.sent) == len(faults.seen) > 30


def test_packages_and_notices_of_a_job_without_a_network(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "yaml-1.whl").write_bytes(b"wheel")
    wheels = Parcel((("yaml-1.whl", tmp_path / "yaml-1.whl"),), "abc")
    isolated = replace(OPTIONS, network_isolation=True, wheels_name="wheels-abc")
    order, _, told = launch(isolated, wheels=wheels, notices=Notices("me@example.com"))
    launched = order.run()
    uri = job(launched)["InputDataConfig"][1]["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri == "s3://wrn-123456789012-eu-west-1/wrn/code/wheels-abc/"
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    listed = launched.session.call("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": key})["Contents"]
    assert [entry["Key"] for entry in listed] == [f"{key}yaml-1.whl"]
    assert told[-1] == "notify: confirm the email that AWS sends now, or no notification will arrive"


def test_damaged_data_is_not_sent(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_stand_ins(monkeypatch)
    config = resolve(None, {}).config
    path = write_archive(tmp_path, "cifar-100-python")
    path.write_bytes(path.read_bytes()[:-50])
    order, _, _ = launch(config=config, data=find_parcel(config, [tmp_path]))
    with pytest.raises(DataError, match="truncated or damaged"):
        order.run()
    assert "PutObject" not in faults.seen


def test_a_quota_of_zero_is_told_before_the_upload(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_stand_ins(monkeypatch)
    config = resolve(None, {}).config
    write_archive(tmp_path, "cifar-100-python")
    data = find_parcel(config, [tmp_path])
    faults.quotas = {"ml.g5.xlarge for training job usage": 0, "ml.g5.xlarge for spot training job usage": 4}
    order, _, _ = launch(config=config, data=data)
    with pytest.raises(QuotaReached, match=r"may use 0 of the 1 requested instances in eu-west-1 .*--fallback"):
        order.run()
    assert "PutObject" not in faults.seen
    assert "CreateTrainingJob" not in faults.seen
    order, _, told = launch(config=config, data=data, fallback="g6.xlarge")
    assert order.run().options.instance_type == "ml.g6.xlarge"
    assert any(line.startswith("quota: ") for line in told)
    faults.quotas = {"ml.g5.xlarge for training job usage": 4, "ml.g5.xlarge for training warm pool usage": 0}
    order, _, _ = launch(replace(OPTIONS, name="warm", keep_warm=600, region="eu-west-3"), config=config, data=data)
    with pytest.raises(QuotaReached, match=r"may use 0 of the 1 .*'ml.g5.xlarge for training warm pool usage'.*-warm$"):
        order.run()
    assert "warm" not in {request["TrainingJobName"] for request in faults.created}
    faults.refuse("ListServiceQuotas", "AccessDeniedException")
    order, _, _ = launch(replace(OPTIONS, name="spot", spot=True, region="eu-west-2"), config=config, data=data)
    assert order.run().name == "spot"  # not allowed to ask, which is not reported


def test_a_new_role_is_waited_for(faults: Faults) -> None:
    message = "Could not assume role arn:aws:iam::123456789012:role/wrn-training. Please ensure that the role exists"
    faults.refuse("CreateTrainingJob", "ValidationException", message, times=3)
    order, clock, _ = launch()
    order.run()
    assert clock.waits == [4.0] * 3
    faults.refuse("CreateTrainingJob", "ValidationException", message, times=99)
    order, clock, _ = launch(replace(OPTIONS, name="again"))
    with pytest.raises(RoleNotReady, match="assume it"):
        order.run()
    assert 120 <= clock.now <= 130, "it was just created"
    assert order.started == ""
    theirs = replace(OPTIONS, role_arn="arn:aws:iam::123456789012:role/theirs")
    order, clock, _ = launch(theirs)
    with pytest.raises(RoleNotReady):
        order.run()
    assert clock.waits == []


def test_a_job_gets_its_role_with_the_path(faults: Faults) -> None:
    session, name = Session(region="eu-west-1"), "AmazonSageMaker-ExecutionRole-1"
    trust = json.dumps(trust_policy("123456789012"))
    request = {"RoleName": name, "Path": "/service-role/", "AssumeRolePolicyDocument": trust}
    session.call("iam", "CreateRole", request)
    order, _, _ = launch(replace(OPTIONS, role_name=name), fallback="us-west-2:g6.xlarge")
    faults.refuse("CreateTrainingJob", "ResourceLimitExceeded")
    assert job(order.run())["RoleArn"] == f"arn:aws:iam::123456789012:role/service-role/{name}"


def test_new_rights_of_an_old_role_are_waited_for(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.aws.account.role.FRESH_SECONDS", -1)
    message = (
        'No S3 objects found under S3 URL "s3://b/wrn/code/x/" given in input data source. Please ensure that the '
        "bucket exists in the selected region (eu-west-1), that objects exist under that S3 prefix, and that the role "
        '"arn:aws:iam::123456789012:role/wrn-training" has "s3:ListBucket" permissions on bucket "b".'
    )
    launch()[0].run()
    faults.refuse("CreateTrainingJob", "ValidationException", message, times=3)
    order, clock, _ = launch(replace(OPTIONS, name="elsewhere", region="eu-west-2"))
    order.run()
    assert clock.waits == [4.0] * 3, "the role is old, but what it may do in this region is new"
    faults.refuse("CreateTrainingJob", "ValidationException", message, times=1)
    order, clock, _ = launch(replace(OPTIONS, name="again"))
    with pytest.raises(RoleNotReady, match=r"; otherwise nothing is there, or the role may not list that bucket$"):
        order.run()
    assert (clock.waits, order.started) == ([], "")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", Throttled),
        ("ExpiredTokenException", NoCredentials),
        ("AccessDeniedException", Denied),
        ("ResourceLimitExceeded", QuotaReached),
        ("InternalFailure", AwsError),
    ],
)
def test_refusals_end_it(code: str, kind: type[Exception], faults: Faults) -> None:
    faults.refuse("CreateTrainingJob", code, times=9)
    order, _, _ = launch()
    with pytest.raises(kind, match="CreateTrainingJob: "):
        order.run()
    assert order.started == ""


def test_a_name_in_use(faults: Faults) -> None:
    launch()[0].run()
    order, _, _ = launch()
    with pytest.raises(NameInUse, match=r"a job job exists in eu-west-1 already; .*--name.*wrn status job$"):
        order.run()


def test_an_answer_that_was_lost(faults: Faults) -> None:
    """The first request arrives, its answer does not, and the retry finds the name in use: by itself."""
    launch()[0].run()
    faults.fail("CreateTrainingJob", ReadTimeoutError(endpoint_url="x"))
    order, _, _ = launch()
    assert order.run().name == "job"
    faults.fail("CreateTrainingJob", ReadTimeoutError(endpoint_url="x"))
    order, _, _ = launch(replace(OPTIONS, instance_type="ml.g6.xlarge"))
    with pytest.raises(NameInUse):
        order.run()
    faults.fail("CreateTrainingJob", ReadTimeoutError(endpoint_url="x"), times=9)
    order, _, _ = launch(replace(OPTIONS, name="lost"))
    with pytest.raises(NoAnswer):
        order.run()
    assert order.started == "lost", "it may be running"


def test_quota_walks_over_types_and_regions(faults: Faults) -> None:
    faults.refuse("CreateTrainingJob", "ResourceLimitExceeded", "limit is 0 Instances", times=2)
    faults.jobs = [TRAINING]
    order, _, told = launch(fallback="g6.xlarge,us-west-2:g5.xlarge,g6.2xlarge")
    launched = order.run()
    assert (launched.name, launched.options.region) == ("job-3", "us-west-2")
    assert faults.seen.count("HeadBucket") == 2, "once for each region"
    assert launched.session.region == "us-west-2"
    assert [line for line in told if line.startswith("next: ")] == [
        "next: ml.g6.xlarge in eu-west-1",
        "next: ml.g5.xlarge in us-west-2",
    ]
    request = job(launched)
    assert request["AlgorithmSpecification"]["TrainingImage"].startswith("763104351884.dkr.ecr.us-west-2.")
    assert request["OutputDataConfig"]["S3OutputPath"] == "s3://wrn-123456789012-us-west-2/wrn/output"


def test_the_last_refusal_is_the_one_that_is_told(faults: Faults) -> None:
    faults.refuse("CreateTrainingJob", "ResourceLimitExceeded", "limit is 0 Instances", times=9)
    with pytest.raises(QuotaReached):
        launch(fallback="g6.xlarge")[0].run()


def test_capacity_walks_on(faults: Faults) -> None:
    faults.jobs = [STARTING, NO_CAPACITY, STARTING, TRAINING]
    order, clock, told = launch(fallback="g6.xlarge,g6.2xlarge")
    launched = order.run()
    assert launched.name == "job-2"
    assert clock.waits == [10.0, 10.0]
    assert "job: AWS has no ml.g5.xlarge available at the moment; wait, or name others with --fallback" in told


def test_waiting_has_an_end(faults: Faults) -> None:
    faults.jobs = [STARTING] * 999
    order, clock, told = launch(fallback="g6.xlarge", patience=Patience(each=60))
    launched = order.run()
    assert (launched.name, clock.now) == ("job-2", 60.0)
    assert "job: no ml.g5.xlarge within 60 s; stopped" in told
    assert faults.seen.count("StopTrainingJob") == 1
    assert faults.seen[-1] == "CreateTrainingJob", "the last one keeps waiting"


def test_waiting_at_one_place_alone(faults: Faults) -> None:
    faults.jobs = [STARTING] * 999
    order, clock, told = launch(patience=Patience(last=60))
    with pytest.raises(
        NoCapacity, match=r"^job: no ml.g5.xlarge was available in eu-west-1; .* --wait-for-capacity, or "
    ):
        order.run()
    assert (clock.now, told[-1], order.started) == (60.0, "job: no ml.g5.xlarge within 60 s; stopped", "")
    assert faults.seen[-1] == "StopTrainingJob"
    faults.jobs = [STARTING, TRAINING]
    order, clock, _ = launch(replace(OPTIONS, name="again"), patience=Patience(last=60))
    assert (order.run().name, clock.now) == ("again", 10.0)


def test_a_failure_of_its_own_is_no_reason_to_go_on(faults: Faults) -> None:
    faults.jobs = [{"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": "AlgorithmError: x"}]
    assert launch(fallback="g6.xlarge")[0].run().name == "job"


def test_a_poll_that_gets_no_answer_is_repeated(faults: Faults) -> None:
    faults.refuse("DescribeTrainingJob", "ThrottlingException", times=3)
    faults.jobs = [TRAINING]
    assert launch(fallback="g6.xlarge")[0].run().name == "job"


def test_spot_goes_on_demand_only_when_allowed(faults: Faults) -> None:
    spot = replace(OPTIONS, spot=True)
    faults.jobs = [STARTING] * (61 + 121) + [TRAINING]
    order, clock, _ = launch(spot, fallback="g6.xlarge", patience=Patience(each=600, on_demand_after=1800))
    launched = order.run()
    assert (launched.name, launched.options.instance_type, launched.options.spot) == ("job-3", "ml.g5.xlarge", False)
    assert clock.now == 1800.0, "600 s for the first, what is left for the last of the spot instances"
    faults.jobs = [STARTING] * 31 + [TRAINING]
    order, clock, _ = launch(replace(spot, name="b"), fallback="g6.xlarge,g6.2xlarge", patience=Patience(600, 300))
    assert order.run().name == "b-4", "when the time is up, spot instances not tried yet are left out"
    faults.jobs = [STARTING] * 99
    order, _, _ = launch(replace(spot, name="c"), fallback="g6.xlarge", patience=Patience(each=60))
    assert order.run().options.spot, "not allowed"
