from __future__ import annotations

from datetime import date

import pytest

from wrn.aws.catalog.images import ACCOUNTS, DEFAULT_TORCH, RELEASES, image_for
from wrn.errors import AwsError

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("instance", "region", "override", "uri"),
    [
        (
            "ml.g5.xlarge",
            "us-east-1",
            "",
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.12-cu130-amzn2023-sagemaker",
        ),
        (
            "ml.g5.xlarge",
            "eu-south-1",
            "2.14",
            "692866216735.dkr.ecr.eu-south-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker",
        ),
        (
            "ml.g5.xlarge",
            "cn-north-1",
            "2.10",
            "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/"
            "pytorch-training:2.10.0-gpu-py313-cu130-ubuntu22.04-sagemaker",
        ),
        (
            "ml.p3.2xlarge",
            "us-east-1",
            "",
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.8.0-gpu-py312-cu129-ubuntu22.04-sagemaker",
        ),
        (
            "ml.p3dn.24xlarge",
            "us-east-1",
            "",
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.8.0-gpu-py312-cu129-ubuntu22.04-sagemaker",
        ),
        (
            "ml.m5.large",
            "us-west-2",
            "2.13",
            "763104351884.dkr.ecr.us-west-2.amazonaws.com/pytorch:2.13-cpu-amzn2023-sagemaker",
        ),
        ("ml.p3.2xlarge", "nowhere", "my.registry/mine:1", "my.registry/mine:1"),
    ],
)
def test_uris(instance: str, region: str, override: str, uri: str) -> None:
    assert image_for(instance, region, today=TODAY, override=override).uri == uri


def test_the_default_is_patched_and_v100_warns() -> None:
    assert image_for("ml.g5.xlarge", "us-west-2", today=TODAY).warnings == ()
    assert image_for("ml.p3.2xlarge", "us-east-1", today=TODAY).warnings == (
        "image 2.8 has had no security patches since 2026-08-06",
    )


def test_the_warning_begins_the_day_after_the_last_patch() -> None:
    end = RELEASES[DEFAULT_TORCH].end_of_patch
    assert end == date(2027, 7, 2)
    assert not image_for("ml.g5.xlarge", "us-west-2", today=end).warnings
    assert image_for("ml.g5.xlarge", "us-west-2", today=date(2027, 7, 3)).warnings


@pytest.mark.parametrize(
    ("instance", "region", "override", "words"),
    [
        ("ml.p3.2xlarge", "us-east-1", "2.14", "V100 GPUs, which CUDA 13 .* no longer supports; use the 2.8 image"),
        ("ml.p3dn.24xlarge", "us-east-1", "2.12", "V100 GPUs, which CUDA 13 .* no longer supports; use the 2.8 image"),
        ("ml.g5.xlarge", "us-east-1", "2.15", 'version "2.15" is unknown; give one of 2.14, 2.13'),
        ("ml.g5.xlarge", "eu-cenral-1", "", "no known training images; did you mean eu-central-1"),
        ("ml.g5.xlarge", "cn-north-1", "2.14", "not in cn-north-1; use 2.12"),
        ("ml.m5.large", "us-east-1", "2.8", "needs a GPU"),
    ],
)
def test_refusals_name_the_fix(instance: str, region: str, override: str, words: str) -> None:
    with pytest.raises(AwsError, match=words):
        image_for(instance, region, today=TODAY, override=override)


def test_labels_are_short() -> None:
    assert image_for("ml.g5.xlarge", "us-west-2", today=TODAY).label == "pytorch 2.12 cu130"
    assert image_for("ml.m5.large", "us-west-2", today=TODAY).label == "pytorch 2.12 cpu"
    assert image_for("ml.g5.xlarge", "us-west-2", today=TODAY, override="a.b/c/mine:1").label == "mine:1"


def test_accounts_are_twelve_digits() -> None:
    assert all(len(account) == 12 and account.isdigit() for account in ACCOUNTS.values())
    assert len(ACCOUNTS) == 40
