"""The permissions to deploy: exactly those for the calls that deployments make."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from wrn.aws.account.deploy_permissions import RIGHTS, deployer_policy
from wrn.aws.account.notifications import Notices
from wrn.aws.jobs.options import DeployOptions

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from mocked_aws import Faults

OPTIONS = DeployOptions(name="job", account="123456789012", region="eu-west-1")
ELSEWHERE = replace(OPTIONS, region="us-west-2")
ALL = Notices("me@example.com", alarms=True)


FOLLOWING = {
    "logs:DescribeLogStreams", "logs:GetLogEvents", "sagemaker:ListTags", "sagemaker:ListTrainingJobs",
    "tag:GetResources", "pricing:GetProducts",
}  # fmt: skip
"""What wrn logs, status, jobs, resume and fetch also need, as tests/integration/aws/test_life_of_a_job.py calls them,
and the price."""


def granted(*places: DeployOptions, notices: Notices = ALL) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for statement in deployer_policy(places or (OPTIONS,), notices)["Statement"]:
        for action in statement["Action"]:
            found.setdefault(action, []).extend(statement["Resource"])
    return found


def test_nothing_missing_and_nothing_more(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deployments that cover every branch need every permission, and have it."""
    from botocore.exceptions import ConnectionClosedError

    from data_files import accept_stand_ins, write_archive, write_pictures
    from wrn.aws.account import role
    from wrn.aws.s3 import upload
    from wrn.cli import main

    accept_stand_ins(monkeypatch)
    monkeypatch.setattr(role, "FRESH_SECONDS", -1)
    monkeypatch.setattr(upload, "PART", 40_000)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    write_archive(tmp_path / "data", "cifar-100-python")
    monkeypatch.chdir(tmp_path)
    flags = ["deploy", "--yes", "--region", "eu-west-1", "--notify", "me@example.com", "--alarms"]
    faults.fail("UploadPart", ConnectionClosedError(endpoint_url="x"), after=1, times=9)
    assert main(flags) == 2
    faults.planned.clear()
    faults.jobs = [{"SecondaryStatus": "Starting"}] * 2
    assert main([*flags, "--fallback", "g6.xlarge", "--wait-for-capacity", "0s"]) == 0
    pictures = ["--dataset", "folder", "--data-dir", str(write_pictures(tmp_path / "mine"))]
    assert main([*flags, *pictures, "--budget", "7"]) == 0
    capsys.readouterr()
    called = {operation for operation in faults.seen if operation != "GetCallerIdentity"}
    assert called <= set(RIGHTS)
    assert set(RIGHTS) - called == {
        "UpdateAssumeRolePolicy",
        "AttachRolePolicy",
        "DescribeImages",
        "UpdateTrainingJob",
    }, "when asked"
    needed = {right for operation in called for right in RIGHTS[operation]}
    assert needed | {"iam:UpdateAssumeRolePolicy"} | FOLLOWING == set(granted())


def test_only_what_is_ours() -> None:
    rights = granted(OPTIONS, ELSEWHERE)
    assert rights["s3:PutObject"] == [
        f"arn:aws:s3:::wrn-123456789012-{region}/wrn/{folder}/*"
        for region in ("eu-west-1", "us-west-2")
        for folder in ("code", "data")
    ]
    assert rights["iam:CreateRole"] == ["arn:aws:iam::123456789012:role/wrn-training"]
    assert {name for name, places in rights.items() if "*" in places} == {
        "servicequotas:ListServiceQuotas", "sagemaker:ListTrainingJobs", "tag:GetResources", "pricing:GetProducts",
    }  # fmt: skip
    assert all(re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", name) for name in rights)
    assert not any(fnmatch.fnmatch(name, "*Delete*") for name in rights)


def test_what_was_named_needs_fewer() -> None:
    named = replace(OPTIONS, bucket="mine", role_arn="arn:aws:iam::123456789012:role/theirs")
    rights = granted(named, notices=Notices())
    assert set(rights) - FOLLOWING == {
        "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetObject", "s3:PutObject",
        "s3:ListMultipartUploadParts", "sagemaker:CreateTrainingJob", "sagemaker:AddTags",
        "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob", "iam:PassRole",
        "servicequotas:ListServiceQuotas",
    }  # fmt: skip
    looked_at = granted(replace(OPTIONS, bucket="mine"))["s3:GetEncryptionConfiguration"]
    assert looked_at == ["arn:aws:s3:::mine"]
    assert "s3:GetEncryptionConfiguration" not in granted(replace(OPTIONS, bucket="mine", kms_key="abc"))
    assert "iam:AttachRolePolicy" in granted(replace(OPTIONS, full_access=True))
    assert granted(replace(OPTIONS, keep_warm=600))["sagemaker:UpdateTrainingJob"] == [
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/*"
    ]
    roles = granted(replace(OPTIONS, role_name="theirs"))["iam:PassRole"]
    assert roles == [f"arn:aws:iam::123456789012:role/{name}" for name in ("theirs", "*/theirs")], "it may have a path"
    own_image = granted(replace(OPTIONS, image_tag="py312-x"))
    assert own_image["ecr:DescribeImages"] == ["arn:aws:ecr:eu-west-1:123456789012:repository/wrn"]
    assert "kms:GenerateDataKey" in granted(replace(OPTIONS, kms_key="abc"))
    own = Notices("arn:aws:sns:eu-west-1:123456789012:mine")
    assert {name for name in granted(notices=own) if name.startswith(("sns", "events"))} == {
        "events:ListTargetsByRule",
        "events:PutRule",
        "events:PutTargets",
        "events:TagResource",
    }
