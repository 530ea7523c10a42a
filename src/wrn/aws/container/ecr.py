"""wrn's own image in the account's registry: its tag is a hash of what goes into it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wrn.aws.account.errors import NameInUse, NotThere
from wrn.aws.account.partitions import partition
from wrn.aws.account.policies import Document, allow, document
from wrn.aws.account.session import Session
from wrn.aws.catalog.images import OWN_REPOSITORY, newest_with, own_image
from wrn.aws.catalog.instances import gpu_of
from wrn.aws.container.engine import Engine, find_engine
from wrn.aws.jobs.calls import OWNER
from wrn.aws.jobs.job import has_our_tag
from wrn.aws.s3.code_archive import REQUIREMENTS, text_of
from wrn.errors import AwsError
from wrn.filesystem import is_file
from wrn.strict_json import to_json

CONTENT = ("Dockerfile", REQUIREMENTS)
"""Everything that goes into the image."""

CUDA_OF = {"torch==2.13.0": 13}
"""CUDA of torch from PyPI; only its CUDA 12.6 builds still support V100 (pytorch/pytorch#178665, #190355)."""

KEPT = 5
"""Images in the registry; older ones are removed. Each has some gigabytes, at ten cents per gigabyte and month."""

LOOK = ("DescribeImages", "DescribeRepositories", "ListTagsForResource")
MAKE = (
    "CreateRepository",
    "TagResource",
    "PutLifecyclePolicy",
    "PutImageTagMutability",
    "PutImageScanningConfiguration",
)
UPLOAD = (
    *("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"),  # existing layers are not sent again
    *("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"),
)
"""What a push calls: `push` itself, and the engine through the registry's own protocol."""

Tell = Callable[[str], None]


def content_tag(root: Path) -> str:
    """Starts with the image's Python, like the tags of AWS's images. The same whatever the line endings here.

    Raises AwsError if there is no Dockerfile.
    """
    digest = hashlib.sha256()
    for name in CONTENT:
        path = root / name
        if not is_file(path):
            raise AwsError(f"{root} has no {name}; run this from a clone of the repository")
        content = text_of(path)
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"py312-{digest.hexdigest()[:16]}"


def check_gpu(root: Path, instance: str) -> None:
    """Raises AwsError if the image's torch does not support the GPU of an instance type.

    A Dockerfile with another torch is not judged.
    """
    gpu = gpu_of(instance)
    found = re.search(r"^ARG TORCH=(\S+)$", (root / CONTENT[0]).read_text(encoding="utf-8"), re.MULTILINE)
    cuda = CUDA_OF.get(found[1]) if found else None
    if gpu and gpu.cuda and cuda and cuda > gpu.cuda:
        raise AwsError(
            f"image_uri: {instance} has {gpu.name} GPUs, which CUDA {cuda} in the image of `wrn image push` does not "
            f"support; leave out --image-uri to use AWS's {newest_with(gpu.cuda)} image, or use another instance type"
        )


def local_name(tag: str) -> str:
    return f"{OWN_REPOSITORY}:{tag}"


def build(root: Path, tell: Tell) -> str:
    """Build the image on this machine unless it exists; returns its name."""
    image = local_name(content_tag(root))
    _build(find_engine(), root, image, tell)
    return image


def push(session: Session, root: Path, tell: Tell) -> str:
    """Push the image unless it is there already; returns its address in the registry."""
    tag = content_tag(root)
    uri = own_image(session.account, session.region, tag)
    if kind := manifest_of(session, tag):
        _check_kind(session, tag, kind)
        tell(f"{uri} is there already")
        return uri
    engine = find_engine()
    _build(engine, root, local_name(tag), tell)
    ensure_repository(session, tell)
    engine.push(local_name(tag), uri, password=_password(session))
    if kind := manifest_of(session, tag):
        _check_kind(session, tag, kind)
    return uri


def manifest_of(session: Session, tag: str) -> str:
    """The media type of the image with this tag in the registry; empty if there is none."""
    request = {"repositoryName": OWN_REPOSITORY, "imageIds": [{"imageTag": tag}]}
    try:
        found = session.call("ecr", "DescribeImages", request)["imageDetails"]
    except NotThere:
        return ""
    return str(found[0].get("imageManifestMediaType", "unknown")) if found else ""


def check_pushed(session: Session, tag: str) -> None:
    """Raises AwsError if the image of --image-uri auto is not in the session's region."""
    if kind := manifest_of(session, tag):
        _check_kind(session, tag, kind)
    else:
        raise AwsError(
            f"image_uri: the image of this Dockerfile ({tag}) is not in {session.region}; "
            f"run: wrn image push --region {session.region}"
        )


def _check_kind(session: Session, tag: str, kind: str) -> None:
    if ".oci." in kind:
        raise AwsError(
            f"image: {tag} in {session.region} has an OCI manifest ({kind}), which SageMaker refuses; remove it with "
            f"aws ecr batch-delete-image --repository-name {OWN_REPOSITORY} --image-ids imageTag={tag} --region "
            f"{session.region}, and push again, with podman if docker produces no other"
        )


def ensure_repository(session: Session, tell: Tell) -> None:
    """Private, scanned, with tags that cannot be moved. Raises AwsError if wrn did not create the one of this name."""
    name = {"repositoryName": OWN_REPOSITORY}
    try:
        there = session.call("ecr", "DescribeRepositories", {"repositoryNames": [OWN_REPOSITORY]})["repositories"][0]
    except NotThere:
        try:
            session.call("ecr", "CreateRepository", repository_request())
            tell(f"registry: created the repository {OWN_REPOSITORY}")
        except NameInUse:
            pass  # created by a concurrent push
    else:
        tags = session.call("ecr", "ListTagsForResource", {"resourceArn": there["repositoryArn"]})["tags"]
        if not has_our_tag(tags):
            raise AwsError(
                f"registry: there is a repository {OWN_REPOSITORY} that wrn did not create; "
                f"tag it {'='.join((OWNER[0]['Key'], OWNER[0]['Value']))} if it may be used"
            )
        if there.get("imageTagMutability") != "IMMUTABLE":
            session.call("ecr", "PutImageTagMutability", {**name, "imageTagMutability": "IMMUTABLE"})
        if not there.get("imageScanningConfiguration", {}).get("scanOnPush"):
            request = {**name, "imageScanningConfiguration": {"scanOnPush": True}}
            session.call("ecr", "PutImageScanningConfiguration", request)
    session.call("ecr", "PutLifecyclePolicy", {**name, "lifecyclePolicyText": to_json(lifecycle())})


def pushing_policy(account: str, region: str) -> Document:
    """The permissions to build the image and push it to this region."""
    repository = f"arn:{partition(region)}:ecr:{region}:{account}:repository/{OWN_REPOSITORY}"
    return document(
        allow("OwnRepository", [f"ecr:{name}" for name in (*LOOK, *MAKE, *UPLOAD)], [repository]),
        allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
    )


def repository_request() -> dict[str, Any]:
    return {
        "repositoryName": OWN_REPOSITORY,
        "tags": OWNER,
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }


def lifecycle() -> dict[str, Any]:
    """Keep only the newest images."""
    rule = {
        "rulePriority": 1,
        "description": f"the newest {KEPT} stay",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT},
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}


def _build(engine: Engine, root: Path, image: str, tell: Tell) -> None:
    if engine.has(image):
        tell(f"{image} exists already")
        return
    tell(f"building {image} with {engine.name}: some gigabytes, in some minutes")
    engine.build(root, image)


def _password(session: Session) -> str:
    """The registry's password, valid for twelve hours."""
    answer = session.call("ecr", "GetAuthorizationToken")["authorizationData"][0]
    return base64.b64decode(answer["authorizationToken"]).decode().partition(":")[2]
