"""AWS's own PyTorch training images: which one to use for an instance type and region, and until when AWS patches it.

Tags and accounts are those of sagemaker-core 2.27.0 (pytorch-amzn2023.json, 2026-10-21); end-of-patch dates are those
of the deep-learning-containers repository. The isolated regions of governments other than us-gov are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from wrn.aws.account.partitions import partition_of
from wrn.aws.catalog.instances import gpu_of
from wrn.errors import AwsError


@dataclass(frozen=True)
class Release:
    """One version of the image. `tag_cpu` is empty if its CPU image is not used here."""

    torch: str
    repository: str
    tag: str
    tag_cpu: str
    cuda: int
    end_of_patch: date | None


DEFAULT_TORCH = "2.12"
"""CUDA 13.0: the newest whose driver needs are modest. Whether ml.* hosts run CUDA 13.3 images is unknown."""

RELEASES: dict[str, Release] = {
    release.torch: release
    for release in (
        Release("2.14", "pytorch", "2.14-cu133-amzn2023-sagemaker", "2.14-cpu-amzn2023-sagemaker", 13, None),
        Release(
            "2.13", "pytorch", "2.13-cu133-amzn2023-sagemaker", "2.13-cpu-amzn2023-sagemaker", 13, date(2027, 7, 20)
        ),
        Release(
            "2.12", "pytorch", "2.12-cu130-amzn2023-sagemaker", "2.12-cpu-amzn2023-sagemaker", 13, date(2027, 7, 2)
        ),
        Release("2.10", "pytorch-training", "2.10.0-gpu-py313-cu130-ubuntu22.04-sagemaker", "", 13, date(2027, 1, 21)),
        # The last with CUDA 12, and so the last for V100: pytorch/pytorch#160269 says that 2.8 still supports it.
        Release("2.8", "pytorch-training", "2.8.0-gpu-py312-cu129-ubuntu22.04-sagemaker", "", 12, date(2026, 8, 6)),
    )
}

_COMMON = "763104351884"

ACCOUNTS: dict[str, str] = {
    **dict.fromkeys(
        (
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-south-1",
            "ap-southeast-1",
            "ap-southeast-2",
            "ca-central-1",
            "eu-central-1",
            "eu-north-1",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        ),
        _COMMON,
    ),
    "af-south-1": "626614931356",
    "ap-east-1": "871362719292",
    "ap-east-2": "975050140332",
    "ap-northeast-3": "364406365360",
    "ap-south-2": "772153158452",
    "ap-southeast-3": "907027046896",
    "ap-southeast-4": "457447274322",
    "ap-southeast-5": "550225433462",
    "ap-southeast-6": "633930458069",
    "ap-southeast-7": "590183813437",
    "ca-west-1": "204538143572",
    "cn-north-1": "727897471807",
    "cn-northwest-1": "727897471807",
    "eu-central-2": "380420809688",
    "eu-south-1": "692866216735",
    "eu-south-2": "503227376785",
    "eusc-de-east-1": "204133271717",
    "il-central-1": "780543022126",
    "me-central-1": "914824155844",
    "me-south-1": "217643126080",
    "me-west-1": "124382933778",
    "mx-central-1": "637423239942",
    "us-gov-east-1": "446045086412",
    "us-gov-west-1": "442386744353",
}
"""The account that owns the images in each region."""

_MISSING = {
    "2.14": ("cn-north-1", "cn-northwest-1", "eusc-de-east-1", "us-gov-east-1", "us-gov-west-1"),
    "2.8": ("eusc-de-east-1",),
}
"""Regions without the image of a version."""


@dataclass(frozen=True)
class Image:
    """A training image. `label` is short, for a table; `warnings` are sentences, usually none."""

    uri: str
    label: str
    torch: str | None
    end_of_patch: date | None
    warnings: tuple[str, ...] = ()


def image_for(instance: str, region: str, *, today: date, override: str = "") -> Image:
    """The training image for an instance type, by name (also one that is not in the catalogue).

    override: a version ("2.14") or the URI of any image, which is used unchanged.
    Raises AwsError if the region or version is unknown, or if the version does not support the GPU.
    """
    if "/" in override:
        return Image(override, override.rpartition("/")[2], None, None)
    gpu = gpu_of(instance)
    newest_cuda = gpu.cuda if gpu else None
    version = override or newest_with(newest_cuda)
    if version not in RELEASES:
        raise AwsError(f'image: version "{version}" is unknown; give one of {", ".join(RELEASES)}, or a URI')
    release = RELEASES[version]
    if gpu and newest_cuda and release.cuda > newest_cuda:
        raise AwsError(
            f"image: {instance} has {gpu.name} GPUs, which CUDA {release.cuda} in the {version} image no longer "
            f"supports; use the {newest_with(newest_cuda)} image, or another instance type"
        )
    with_gpu = gpu is not None or instance.startswith(("ml.g", "ml.p"))
    tag = release.tag if with_gpu else release.tag_cpu
    if not tag:
        raise AwsError(f"image: the {version} image needs a GPU, {instance} has none; use {DEFAULT_TORCH}")
    kind = f"cu{tag.partition('cu')[2][:3]}" if with_gpu else "cpu"
    warnings = []
    if release.end_of_patch and release.end_of_patch < today:
        warnings.append(f"image {version} has had no security patches since {release.end_of_patch}")
    if region in _MISSING.get(version, ()):
        raise AwsError(f"image: the {version} image is not in {region}; use {DEFAULT_TORCH}")
    return Image(
        f"{registry(region)}/{release.repository}:{tag}",
        f"pytorch {version} {kind}",
        version,
        release.end_of_patch,
        tuple(warnings),
    )


def registry(region: str) -> str:
    """The host name of AWS's image registry in a region. Raises AwsError for a region without one."""
    if region not in ACCOUNTS:
        from wrn.config.files import nearest

        raise AwsError(f'region: "{region}" has no known training images{nearest(region, list(ACCOUNTS))}')
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.{partition_of(region).dns_suffix}"


OWN_REPOSITORY = "wrn"
"""Repository of wrn's own image, in the account's registry."""


def own_image(account: str, region: str, tag: str) -> str:
    """The address of wrn's own image in an account."""
    return f"{account}.dkr.ecr.{region}.{partition_of(region).dns_suffix}/{OWN_REPOSITORY}:{tag}"


def newest_with(cuda: int | None) -> str:
    """The version to use on GPUs that CUDA supports up to this major version (None: all)."""
    if cuda is None or RELEASES[DEFAULT_TORCH].cuda <= cuda:
        return DEFAULT_TORCH
    return next(release.torch for release in RELEASES.values() if release.cuda <= cuda)
