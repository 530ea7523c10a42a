"""Regions of every partition, against botocore's own data: names, ARNs, host names, the console."""

from __future__ import annotations

import json
import re
import sys

import pytest

pytest.importorskip("botocore", reason="needs the extra aws")

from botocore.loaders import create_loader

from wrn.aws.account.names import policy_region
from wrn.aws.account.partitions import REGION, Partition, partition, partition_of
from wrn.aws.account.policies import role_policy
from wrn.aws.account.validate import check_request
from wrn.aws.catalog.images import ACCOUNTS, image_for, own_image
from wrn.aws.catalog.prices import _pricing_client
from wrn.aws.jobs import console
from wrn.aws.jobs.capacity import read_fallback
from wrn.aws.jobs.options import DeployOptions, policy_name
from wrn.cli import main
from wrn.cli.deploy_flags import region as read_region
from wrn.errors import AwsError

EUSC = "eusc-de-east-1"
KNOWN = {
    region: (entry["id"], entry["outputs"]["dnsSuffix"])
    for entry in create_loader().load_data("partitions")["partitions"]
    for region in entry["regions"]
    if not region.endswith("-global")
}


def test_every_region_that_botocore_knows_is_one() -> None:
    assert {EUSC, "me-west-1", "us-gov-east-1", "us-isob-east-1"} <= set(KNOWN)
    for region, (name, suffix) in KNOWN.items():
        assert read_region(region) == region
        assert read_fallback(f"{region}:g5.xlarge") == ((region, "ml.g5.xlarge"),)
        assert partition_of(region) == Partition(name, suffix)
        for end in ("", "-0a1b2c3d", "-12345678"):
            assert policy_region(f"wrn-training-{region}{end}") == region
    assert set(ACCOUNTS) <= set(KNOWN)


@pytest.mark.parametrize(
    ("region", "name"),
    [("eusc-de-west-2", "aws-eusc"), ("cn-south-1", "aws-cn"), ("eu-south-9", "aws"), ("nz-north-1", "aws")],
)
def test_a_region_newer_than_botocore(region: str, name: str) -> None:
    assert read_region(region) == region
    assert partition(region) == name


@pytest.mark.parametrize("text", ["eu-west", "eu-west1", "Eu-west-1", "eu_west_1", "-1", "e-west-1", "eu-west-1 "])
def test_no_region(text: str) -> None:
    with pytest.raises(ValueError, match="is not a region"):
        read_region(text)
    assert not re.fullmatch(REGION, text)


def test_the_sovereign_cloud_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "--dry-run", "--dataset", "synthetic", "--region", EUSC]) == 0
    calls = {call["operation"]: call["request"] for call in json.loads(capsys.readouterr().out)}
    assert calls["CreateBucket"]["CreateBucketConfiguration"] == {"LocationConstraint": EUSC}
    job = calls["CreateTrainingJob"]
    assert job["RoleArn"] == "arn:aws-eusc:iam::111122223333:role/wrn-training"
    # The account is that of sagemaker-core's table.
    assert job["AlgorithmSpecification"]["TrainingImage"].startswith(f"204133271717.dkr.ecr.{EUSC}.amazonaws.eu/")
    rights = calls["PutRolePolicy"]["PolicyDocument"]
    assert f"arn:aws-eusc:ecr:{EUSC}:204133271717:repository/pytorch" in rights
    assert "arn:aws:" not in rights
    # Service principals are the same everywhere.
    assert "sagemaker.amazonaws.com" in calls["CreateRole"]["AssumeRolePolicyDocument"]
    assert own_image("111122223333", EUSC, "x") == f"111122223333.dkr.ecr.{EUSC}.amazonaws.eu/wrn:x"
    assert main(["plan", "--region", EUSC]) == 0
    assert policy_region(policy_name(DeployOptions(name="a", account="111122223333", region=EUSC))) == EUSC


def test_images_that_the_sovereign_cloud_lacks() -> None:
    from datetime import date

    for version in ("2.14", "2.8"):
        with pytest.raises(AwsError, match=f"the {version} image is not in {EUSC}; use 2.12"):
            image_for("ml.g5.xlarge", EUSC, today=date(2026, 11, 23), override=version)


@pytest.mark.parametrize(
    ("host", "pulled"),
    [
        (f"111122223333.dkr.ecr.{EUSC}.amazonaws.eu", True),
        ("111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn", True),
        (f"111122223333.dkr.ecr.{EUSC}.amazonaws.com", False),
        ("111122223333.dkr.ecr.eu-west-1.example.com", False),
        ("registry.example.com", False),
    ],
)
def test_the_right_to_pull_is_for_registries_of_accounts(host: str, pulled: bool) -> None:
    options = DeployOptions(name="a", account="111122223333", region=EUSC, image_uri=f"{host}/mine:1")
    assert ("PullImage" in {entry["Sid"] for entry in role_policy(options)["Statement"]}) == pulled


@pytest.mark.parametrize("region", [region for region in ACCOUNTS if region != "us-east-1"])
def test_a_bucket_may_be_in_every_region_with_images(region: str) -> None:
    """botocore's own list of them lacks some."""
    request = {"Bucket": "wrn-x", "CreateBucketConfiguration": {"LocationConstraint": region}}
    check_request("s3", "CreateBucket", request)


def test_the_console_is_beside_the_sign_in_that_botocore_knows() -> None:
    rules = json.dumps(create_loader().load_service_model("signin", "endpoint-rule-set-1"))
    hosts = set(re.findall(r"https://\{Region\}\.signin\.([a-z.-]+)", rules))
    assert {host.removeprefix("console.") for host in console._HOSTS.values()} <= hosts
    assert (
        console.job_url(EUSC, "a") == f"https://{EUSC}.console.amazonaws-eusc.eu/sagemaker/home?region={EUSC}#/jobs/a"
    )
    assert console.job_url("us-iso-east-1", "a") is console.logs_url("us-iso-east-1", "a") is None


@pytest.mark.parametrize(
    ("region", "place"), [(EUSC, EUSC), ("cn-north-1", "cn-northwest-1"), ("eu-west-1", "us-east-1")]
)
def test_prices_are_those_of_the_partition(region: str, place: str) -> None:
    assert _pricing_client(None, region).meta.region_name == place


def test_without_botocore_a_plan_works_where_addresses_are_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    partition_of.cache_clear()
    monkeypatch.setitem(sys.modules, "botocore.loaders", None)
    assert main(["plan", "--region", "eu-west-1"]) == 0
    assert main(["plan", "--region", EUSC]) == 2
    assert "install boto3" in capsys.readouterr().err
    partition_of.cache_clear()
