from __future__ import annotations

import pytest

from wrn.aws.catalog.instances import CATALOGUE, GPUS, find_instance, mfu_of
from wrn.errors import AwsError


@pytest.mark.parametrize(
    ("name", "gpu", "gpus", "vcpus", "ram_gib"),
    [
        ("ml.g4dn.12xlarge", "T4", 4, 48, 192),
        ("ml.g5.16xlarge", "A10G", 1, 64, 256),
        ("ml.g5.24xlarge", "A10G", 4, 96, 384),
        ("ml.g6e.12xlarge", "L40S", 4, 48, 384),
        ("ml.g7e.12xlarge", "RTX PRO 6000", 2, 48, 512),
        ("ml.p3.16xlarge", "V100", 8, 64, 488),
        ("ml.p4d.24xlarge", "A100", 8, 96, 1152),
        ("ml.p5.4xlarge", "H100", 1, 16, 256),
    ],
)
def test_shapes(name: str, gpu: str, gpus: int, vcpus: int, ram_gib: int) -> None:
    instance = find_instance(name)
    assert (instance.gpu.name, instance.gpus, instance.vcpus, instance.ram_gib) == (gpu, gpus, vcpus, ram_gib)


def test_the_catalogue_is_consistent() -> None:
    for name, instance in CATALOGUE.items():
        assert name == instance.name
        assert name.startswith("ml.")
        assert (instance.link == "none") == (instance.gpus == 1)
        assert instance.gpu in GPUS
        assert instance.gpu.tflops > instance.gpu.tflops_32


def test_p3_is_not_offered_everywhere() -> None:
    assert not find_instance("ml.p3.2xlarge").offered_in("us-west-2")
    assert find_instance("ml.p3.2xlarge").offered_in("eu-west-1")
    assert find_instance("ml.g5.xlarge").offered_in("us-west-2")


def test_an_unknown_type_gets_the_nearest() -> None:
    with pytest.raises(AwsError, match=r'"ml\.g5\.xlrge" is not in the catalogue; did you mean ml\.g5\.xlarge\?'):
        find_instance("ml.g5.xlrge")


def test_an_mfu_says_whether_it_was_measured() -> None:
    for gpu in GPUS:
        assert mfu_of(gpu).measured or mfu_of(gpu).source.startswith("assumed")
