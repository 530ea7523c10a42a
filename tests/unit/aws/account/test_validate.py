"""Corrupted requests are refused, with every error named."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wrn.aws.account import validate
from wrn.aws.account.validate import check_request
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.jobs.request import training_job
from wrn.config.layers import resolve
from wrn.errors import AwsError

pytest.importorskip("botocore", reason="needs the extra aws")

CONFIG = resolve(None, {}).config
OPTIONS = DeployOptions(
    name="a-job", account="111122223333", spot=True, subnets=("subnet-1",), security_groups=("sg-1",), kms_key="k"
)
GOOD = training_job(resolve(None, {"lr": "0.2"}).config, CONFIG, "standard", OPTIONS)


def check(request: dict[str, Any]) -> list[str]:
    """The errors in the request, one per line."""
    try:
        check_request("sagemaker", "CreateTrainingJob", request)
    except AwsError as error:
        return str(error).split("\n")
    return []


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with one place replaced, or removed if the value is `...`."""
    request = copy.deepcopy(GOOD)
    here: Any = request
    *above, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    for name in above:
        here = here[name]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return request


def test_the_untouched_request() -> None:
    assert check(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("TrainingJobName", "my job", "'my job' must be letters, digits and hyphens, at most 63 of them, with no"),
        ("TrainingJobName", "x" * 64, "at most 63 of them, with no hyphen at an end; set --name"),
        ("TrainingJobName", ..., "CreateTrainingJob.TrainingJobName: is missing; set --name"),
        ("TrainingJobName", 7, "7 must be a string; set --name"),
        ("TrainingJobNam", "x", "is not a known member; did you mean TrainingJobName?"),
        ("RoleArn", "mine", "'mine' must be a role's ARN, such as arn:aws:iam::111122223333:role/name; set --role-"),
        ("ResourceConfig.InstanceType", "ml.g5.xlarg", "did you mean ml.g5.xlarge?; set --instance-type"),
        ("ResourceConfig.InstanceType", "zzz", "if it is new, update boto3"),
        ("ResourceConfig.InstanceCount", "1", "'1' must be a whole number; set --instance-count"),
        ("ResourceConfig.InstanceCount", True, "True must be a whole number"),
        ("ResourceConfig.InstanceCount", 0, "InstanceCount: must be at least 1"),
        ("ResourceConfig.VolumeSizeInGB", 0, "VolumeSizeInGB: must be at least 1"),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 99999, "must be at most 21600; set --keep-warm"),
        ("ResourceConfig.KeepAlivePeriodInSeconds", 60, "leave out --keep-warm or --spot"),
        ("AlgorithmSpecification.ContainerArguments", ["x" * 257], "[0]: has 257 characters, must be at most 256"),
        ("AlgorithmSpecification.ContainerArguments", ["a\nb"], "must match .*"),
        ("AlgorithmSpecification.ContainerEntrypoint", [], "has 0 entries, must be at least 1"),
        ("AlgorithmSpecification.ContainerEntrypoint", "bash", "must be a list"),
        ("AlgorithmSpecification.TrainingImage", "i" * 256, "at most 255 characters long; set --image-uri"),
        ("HyperParameters.lr", 0.2, "CreateTrainingJob.HyperParameters.lr: 0.2 must be a string"),
        ("HyperParameters", {str(n): "" for n in range(101)}, "has 101 entries, must be at most 100"),
        ("HyperParameters", ["lr"], "must be a map"),
        ("InputDataConfig.0", "code", "InputDataConfig[0]: 'code' must be a map; set --data-uri"),
        ("InputDataConfig.1.ChannelName", "code", "a channel is given twice"),
        ("InputDataConfig.1.DataSource.S3DataSource.S3Uri", "/data", "'/data' must be an address such as s3://bucket/"),
        ("EnableManagedSpotTraining", "yes", "'yes' must be true or false"),
        ("EnableManagedSpotTraining", False, "is only for spot instances"),
        ("StoppingCondition.MaxWaitTimeInSeconds", 60, "must be at least MaxRuntimeInSeconds (86400)"),
        ("StoppingCondition.MaxWaitTimeInSeconds", ..., "must be at least MaxRuntimeInSeconds (86400)"),
        ("StoppingCondition", {"MaxRuntimeInSeconds": 2419201, "MaxWaitTimeInSeconds": 2419201}, "above 28 days"),
        ("VpcConfig.Subnets", ..., "VpcConfig.Subnets: is missing; set --vpc-config"),
        ("VpcConfig.Subnets", ["subnet-a!"], "Subnets[0]: 'subnet-a!' must be a subnet's id, such as subnet-0a1b2c3d"),
        ("Tags.0.Key", "a;b", "'a;b' must be 1 to 128 letters, digits, spaces or any of _ . : / = + - @; set --tags"),
        ("Tags.0.Key", "", "'' must be 1 to 128 letters"),
        ("Tags.1.Key", "created-by", "created-by is given twice"),
    ],
)
def test_tampered(path: str, value: object, fault: str) -> None:
    faults = check(changed(path, value))
    assert faults
    assert any(fault in line for line in faults), faults


def test_a_flag_is_never_told_a_regular_expression() -> None:
    """Nor the same twice: that a string is too short, and that it has the wrong form."""
    for path in ("TrainingJobName", "RoleArn", "Tags.0.Key", "VpcConfig.SecurityGroupIds.0"):
        (fault,) = check(changed(path, ""))
        assert "must match" not in fault
    for path in ("AlgorithmSpecification.TrainingImage", "InputDataConfig.1.DataSource.S3DataSource.S3Uri"):
        assert check(changed(path, "\n" * 2000))[0].count("must be") == 1


def test_all_faults_are_told_at_once() -> None:
    request = changed("TrainingJobName", "my job")
    request["ResourceConfig"]["InstanceType"] = "ml.p9"
    del request["RoleArn"]
    assert len(check(request)) == 3


def paths(value: Any, here: str = "") -> list[str]:
    """Every place in a request."""
    found = [here] if here else []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        found += paths(entry, f"{here}.{name}" if here else str(name))
    return found


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(paths(GOOD)), value=st.sampled_from([None, 3.5, (), b"x", object()]))
def test_no_place_takes_a_value_of_no_type(path: str, value: object) -> None:
    assert check(changed(path, value))


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    validate._service.cache_clear()
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(AwsError, match=r"pip install 'wrn-cifar\[aws\]'"):
        check_request("sagemaker", "CreateTrainingJob", GOOD)
