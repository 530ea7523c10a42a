"""Our own image in the account's registry: its tag is made of what goes into it, so the same content has one name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wrn.aws.faults import NameInUse, NotThere
from wrn.aws.images import OWN_REPOSITORY, newest_with, own_image
from wrn.aws.imaging.engine import Engine, find_engine
from wrn.aws.instances import gpu_of
from wrn.aws.jobs import has_our_tag
from wrn.aws.options import partition
from wrn.aws.requests.deployment import OWNER
from wrn.aws.requests.policy import Document, allow, document
from wrn.aws.session import Session
from wrn.errors import AwsError

CONTENT = ("Dockerfile", "requirements.txt")
"""Everything that goes in."""

CUDA_OF = {"torch==2.13.0": 13}
"""Of torch from PyPI (pytorch/pytorch#178665, #190355), whose builds for CUDA 12.6 alone still have code for V100."""

KEPT = 5
"""Images in the registry; older ones go. Each is some gigabytes, at ten cents a gigabyte and month."""

LOOK = ("DescribeImages", "DescribeRepositories", "ListTagsForResource")
MAKE = (
    "CreateRepository",
    "TagResource",
    "PutLifecyclePolicy",
    "PutImageTagMutability",
    "PutImageScanningConfiguration",
)
UPLOAD = (
    *("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"),  # a layer that is there is not sent
    *("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"),
)
"""What a push asks of the registry: `push` itself, and the engine by the registry's own protocol."""

Tell = Callable[[str], None]


def content_tag(root: Path) -> str:
    """Begins with the image's Python, as the tags of AWS's images name theirs.

    Raises AwsError where there is no Dockerfile.
    """
    digest = hashlib.sha256()
    for name in CONTENT:
        path = root / name
        if not path.is_file():
            raise AwsError(f"{root} has no {name}; run this from a clone of the repository")
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"py312-{digest.hexdigest()[:16]}"


def check_gpu(root: Path, instance: str) -> None:
    """Raises AwsError where the image's torch has no code for the GPU of an instance type.

    A Dockerfile whose torch is another one than ours is its author's to judge.
    """
    gpu = gpu_of(instance)
    found = re.search(r"^ARG TORCH=(\S+)$", (root / CONTENT[0]).read_text(encoding="utf-8"), re.MULTILINE)
    cuda = CUDA_OF.get(found[1]) if found else None
    if gpu and gpu.cuda and cuda and cuda > gpu.cuda:
        raise AwsError(
            f"image_uri: {instance} has {gpu.name} GPUs, for which CUDA {cuda} in the image of `wrn image push` has no "
            f"code; leave out --image-uri, which takes AWS's {newest_with(gpu.cuda)} image, or take another instance "
            "type"
        )


def local_name(tag: str) -> str:
    return f"{OWN_REPOSITORY}:{tag}"


def build(root: Path, tell: Tell) -> str:
    """Build the image on this machine unless it is there; its name."""
    image = local_name(content_tag(root))
    _build(find_engine(), root, image, tell)
    return image


def push(session: Session, root: Path, tell: Tell) -> str:
    """The address of the image in the registry, where it is put unless it is there already."""
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
    """The media type of the image of this tag in the registry; empty where there is none."""
    request = {"repositoryName": OWN_REPOSITORY, "imageIds": [{"imageTag": tag}]}
    try:
        found = session.call("ecr", "DescribeImages", request)["imageDetails"]
    except NotThere:
        return ""
    return str(found[0].get("imageManifestMediaType", "unknown")) if found else ""


def check_pushed(session: Session, tag: str) -> None:
    """Raises AwsError where the image that --image-uri auto means is not in the session's region."""
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
            f"{session.region}, and push anew, with podman if docker makes no other"
        )


def ensure_repository(session: Session, tell: Tell) -> None:
    """Private, scanned, with tags that cannot be moved. Raises AwsError for one of this name that is not ours."""
    name = {"repositoryName": OWN_REPOSITORY}
    try:
        there = session.call("ecr", "DescribeRepositories", {"repositoryNames": [OWN_REPOSITORY]})["repositories"][0]
    except NotThere:
        try:
            session.call("ecr", "CreateRepository", repository_request())
            tell(f"registry: made the repository {OWN_REPOSITORY}")
        except NameInUse:
            pass  # another push was quicker
    else:
        tags = session.call("ecr", "ListTagsForResource", {"resourceArn": there["repositoryArn"]})["tags"]
        if not has_our_tag(tags):
            raise AwsError(
                f"registry: there is a repository {OWN_REPOSITORY} that this program did not make; "
                f"tag it {'='.join((OWNER[0]['Key'], OWNER[0]['Value']))} if it may be used"
            )
        if there.get("imageTagMutability") != "IMMUTABLE":
            session.call("ecr", "PutImageTagMutability", {**name, "imageTagMutability": "IMMUTABLE"})
        if not there.get("imageScanningConfiguration", {}).get("scanOnPush"):
            request = {**name, "imageScanningConfiguration": {"scanOnPush": True}}
            session.call("ecr", "PutImageScanningConfiguration", request)
    session.call("ecr", "PutLifecyclePolicy", {**name, "lifecyclePolicyText": json.dumps(lifecycle())})


def pushing_policy(account: str, region: str) -> Document:
    """The rights that building and pushing into this region take."""
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
    """The newest stay."""
    rule = {
        "rulePriority": 1,
        "description": f"the newest {KEPT} stay",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT},
        "action": {"type": "expire"},
    }
    return {"rules": [rule]}


def _build(engine: Engine, root: Path, image: str, tell: Tell) -> None:
    if engine.has(image):
        tell(f"{image} is built already")
        return
    tell(f"building {image} with {engine.name}: some gigabytes, for some minutes")
    engine.build(root, image)


def _password(session: Session) -> str:
    """Of the registry, for twelve hours."""
    answer = session.call("ecr", "GetAuthorizationToken")["authorizationData"][0]
    return base64.b64decode(answer["authorizationToken"]).decode().partition(":")[2]
