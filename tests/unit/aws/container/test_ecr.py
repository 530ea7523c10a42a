"""wrn's own image: built once by any available engine, pushed once, with a password that stays hidden."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wrn.aws.container import ecr
from wrn.aws.container.ecr import CUDA_OF, check_gpu, content_tag
from wrn.aws.container.engine import Engine
from wrn.aws.jobs.options import DeployOptions, image_uri, policy_name
from wrn.cli import main
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

ROOT = Path(__file__).resolve().parents[4]
REGION = "eu-west-1"
HOST = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"
TAG = content_tag(ROOT)

FAKE = """#!/bin/bash
printf '%s\\n' "$*" >> {folder}/calls
case "$1 $2" in
  "ps --quiet") [ ! -e {folder}/silent ] || {{ echo 'Cannot connect to the daemon.' >&2; exit 1; }} ;;
  "image inspect") [ -e {folder}/built ] ;;
  "build "*) [ ! -e {folder}/broken ] && touch {folder}/built ;;
  "login --get-login") [ -e {folder}/logged-in ] ;;
  "login "*) cat > {folder}/password; [ ! -e {folder}/locked ] || {{ echo 'Error: unauthorized' >&2; exit 1; }} ;;
esac
"""


class Fake:
    """An engine on the PATH that only records its arguments."""

    def __init__(self, folder: Path, name: str = "docker") -> None:
        self.folder = folder / f"fake-{name}"
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        self.folder.mkdir()
        program.write_text(FAKE.format(folder=self.folder))
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def is_(self, state: str) -> None:
        (self.folder / state).touch()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    (tmp_path / "bin").mkdir()
    for name in ("bash", "cat", "touch"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return Fake(tmp_path)


def registry() -> Any:
    import boto3

    return boto3.client("ecr", REGION)


def put_image(kind: str = "application/vnd.docker.distribution.manifest.v2+json") -> None:
    """What a real engine's push would have done."""
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": f"sha256:{'0' * 64}"}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    registry().put_image(repositoryName="wrn", imageManifest=json.dumps(manifest), imageTag=TAG)


def test_pushed_once(faults: Faults, docker: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "push", "--region", REGION]) == 0
    out, err = capfd.readouterr()
    assert out == f"{HOST}/wrn:{TAG}\n"
    assert f"next: wrn deploy --image-uri auto --region {REGION}" in err
    assert docker.calls == [
        "ps --quiet",
        f"image inspect wrn:{TAG}",
        f"build --platform linux/amd64 --provenance=false --output type=docker --file {ROOT}/Dockerfile "
        f"--tag wrn:{TAG} {ROOT}",
        f"tag wrn:{TAG} {HOST}/wrn:{TAG}",
        f"login --username AWS --password-stdin {HOST}",
        f"push {HOST}/wrn:{TAG}",
        f"logout {HOST}",
    ]
    password = (docker.folder / "password").read_text()
    assert password
    assert password not in "\n".join([out, err, *docker.calls])
    (made,) = registry().describe_repositories()["repositories"]
    assert (made["repositoryName"], made["imageTagMutability"]) == ("wrn", "IMMUTABLE")
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = registry().list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"]
    assert tags == [{"Key": "created-by", "Value": "wrn"}]
    rules = json.loads(registry().get_lifecycle_policy(repositoryName="wrn")["lifecyclePolicyText"])["rules"]
    assert rules[0]["selection"]["countNumber"] == ecr.KEPT

    put_image()
    before = len(docker.calls)
    assert main(["image", "push", "--region", REGION, "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"image": f"{HOST}/wrn:{TAG}"}
    assert "is there already" in err
    assert len(docker.calls) == before


OTHER = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
LOGIN, LOGOUT = "login --username AWS --password-stdin", "logout"


@pytest.mark.parametrize(
    ("engine", "place", "settings", "calls"),
    [
        ("docker", ".docker", {"auths": {HOST: {"auth": "QVdTOng="}}}, [LOGIN, "push"]),
        ("docker", ".docker", {"auths": {f"https://{HOST}/v2/": {}}, "credsStore": "desktop"}, [LOGIN, "push"]),
        ("docker", "snap/docker/current/.docker", {"auths": {HOST: {}}}, [LOGIN, "push"]),
        ("finch", ".finch", {"auths": {HOST: {}}}, [LOGIN, "push"]),
        ("docker", ".docker", {"auths": {OTHER: {}, "https://index.docker.io/v1/": {}}}, [LOGIN, "push", LOGOUT]),
        ("docker", ".docker", {"auths": None, "credHelpers": {OTHER: "ecr-login"}}, [LOGIN, "push", LOGOUT]),
        ("docker", ".docker", [], [LOGIN, "push", LOGOUT]),
        ("docker", ".docker", {"credHelpers": {HOST: "ecr-login"}}, ["push"]),
        ("docker", ".docker", {"credsStore": "ecr-login"}, ["push"]),
    ],
)
def test_a_login_that_was_there_stays(
    engine: str, place: str, settings: Any, calls: list[str], docker: Fake, tmp_path: Path
) -> None:
    fake = docker if engine == "docker" else Fake(tmp_path, engine)
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    Engine(engine).push("wrn:x", f"{HOST}/wrn:x", password="p")
    assert [re.sub(rf" {HOST}.*", "", call) for call in fake.calls[1:]] == calls


def test_a_login_in_a_folder_of_its_own_stays(docker: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text(json.dumps({"auths": {HOST: {}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "own"))
    Engine("docker").push("wrn:x", f"{HOST}/wrn:x", password="p")
    assert docker.calls[-1].startswith("push")


def test_podman_itself_says_whether_there_is_a_login(docker: Fake, tmp_path: Path) -> None:
    podman = Fake(tmp_path, "podman")
    Engine("podman").push("wrn:x", f"{HOST}/wrn:x", password="p")
    assert podman.calls[-1] == f"logout {HOST}"
    podman.is_("logged-in")
    Engine("podman").push("wrn:x", f"{HOST}/wrn:x", password="p")
    assert podman.calls[-1] == f"push {HOST}/wrn:x"


def test_a_push_again_finds_what_was_built_and_mends_the_repository(faults: Faults, docker: Fake) -> None:
    registry().create_repository(repositoryName="wrn", tags=[{"Key": "created-by", "Value": "wrn"}])
    docker.is_("built")
    assert main(["image", "push", "--region", REGION]) == 0
    assert not [call for call in docker.calls if call.startswith("build")]
    (made,) = registry().describe_repositories()["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}


def test_the_rights_of_a_push_need_no_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert main(["image", "push", "--print-policy", "--region", REGION]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["Statement"][0]["Resource"] == [f"arn:aws:ecr:{REGION}:111122223333:repository/wrn"]
    assert err == "111122223333 stands for your account: give --account\n"
    assert main(["image", "push", "--print-policy", "--account", "12"]) == 2
    assert "'12' is not allowed; give the 12 digits of an account" in capsys.readouterr().err
    assert main(["image", "push", "--account", "123456789012"]) == 2
    assert "account: only goes with --print-policy" in capsys.readouterr().err


def test_a_push_asks_only_what_its_printed_rights_allow(
    faults: Faults, docker: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "push", "--print-policy", "--region", REGION, "--account", "123456789012"]) == 0
    own, login = json.loads(capsys.readouterr().out)["Statement"]
    assert not faults.seen, "nothing is asked, nothing is pushed"
    assert not docker.calls
    assert own["Resource"] == [f"arn:aws:ecr:{REGION}:123456789012:repository/wrn"]
    assert login["Action"] == ["ecr:GetAuthorizationToken"]

    assert main(["image", "push", "--region", REGION]) == 0  # creates the repository
    registry().delete_repository(repositoryName="wrn", force=True)
    registry().create_repository(repositoryName="wrn", tags=[{"Key": "created-by", "Value": "wrn"}])
    assert main(["image", "push", "--region", REGION]) == 0  # repairs it
    # GetCallerIdentity needs no permission; the test's own two requests are among those seen.
    asked = {f"ecr:{operation}" for operation in faults.seen} - {"ecr:GetCallerIdentity", "ecr:DeleteRepository"}
    assert asked <= {*own["Action"], *login["Action"]}
    assert "ecr:TagResource" in own["Action"], "creating a repository with tags needs it"


def test_what_goes_wrong(
    faults: Faults, docker: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        assert main(["image", *words]) == 2
        return capfd.readouterr().err

    docker.is_("broken")
    assert "docker build failed with exit code 1; its output is above" in told("build")
    docker.is_("built")
    docker.is_("locked")
    assert f"docker cannot log in to {HOST} (Error: unauthorized)" in told("push", "--region", REGION)
    assert docker.calls[-1] == f"logout {HOST}"
    registry().delete_repository(repositoryName="wrn")
    registry().create_repository(repositoryName="wrn")
    assert "wrn did not create; tag it created-by=wrn" in told("push", "--region", REGION)
    docker.is_("silent")
    assert "docker is installed but does not answer (Cannot connect to the daemon); start it" in told("build")
    other = Fake(tmp_path, "podman")
    assert main(["image", "build"]) == 0
    assert other.calls[-1].startswith("build --platform linux/amd64 --format docker --file")
    assert capfd.readouterr().out == f"wrn:{TAG}\n"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert "none of docker, podman, finch is on the PATH; install one" in told("build")


def test_deploying_with_it(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["deploy", "--yes", "--dataset", "synthetic", "--region", REGION, "--image-uri", "auto", "--name", "mine"]
    assert main(flags) == 2
    told = capsys.readouterr().err
    assert f"({TAG}) is not in eu-west-1; run: wrn image push --region eu-west-1" in told
    assert "CreateBucket" not in faults.seen
    registry().create_repository(repositoryName="wrn", tags=[{"Key": "created-by", "Value": "wrn"}])
    put_image()
    assert main(flags) == 0
    import boto3

    job = boto3.client("sagemaker", REGION).describe_training_job(TrainingJobName="mine")
    assert job["AlgorithmSpecification"]["TrainingImage"] == f"{HOST}/wrn:{TAG}"
    capsys.readouterr()
    assert main([*flags, "--dry-run"]) == 0
    assert f"wrn:{TAG}; it must have been pushed by `wrn image push`" in capsys.readouterr().err
    assert main(["costs", "--region", REGION]) == 0
    assert main(["teardown", "--yes", "--region", REGION]) == 0
    assert registry().describe_repositories()["repositories"] == []


def test_an_image_that_sagemaker_refuses(faults: Faults, docker: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    registry().create_repository(repositoryName="wrn", tags=[{"Key": "created-by", "Value": "wrn"}])
    put_image("application/vnd.oci.image.manifest.v1+json")
    deploy = ["deploy", "--yes", "--dataset", "synthetic", "--region", REGION, "--image-uri", "auto"]
    for command in (["image", "push", "--region", REGION], deploy):
        assert main(command) == 2
        assert "which SageMaker refuses; remove it with aws ecr batch-delete-image" in capfd.readouterr().err
    assert docker.calls == []


def test_the_tag_is_the_content(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in ecr.CONTENT:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert content_tag(tmp_path) == TAG
    for name in ecr.CONTENT:  # as a checkout on Windows
        (tmp_path / name).write_bytes((ROOT / name).read_bytes().replace(b"\n", b"\r\n"))
    assert content_tag(tmp_path) == TAG
    (tmp_path / "src/requirements.txt").write_text("rich\n")
    assert content_tag(tmp_path) != TAG
    (tmp_path / "Dockerfile").unlink()
    with pytest.raises(AwsError, match="has no Dockerfile; run this from a clone"):
        content_tag(tmp_path)


def test_the_same_rights_for_each_content() -> None:
    one = DeployOptions(name="a", account="123456789012", region=REGION, image_tag="py312-1")
    two = DeployOptions(name="a", account="123456789012", region=REGION, image_tag="py312-2")
    assert image_uri(one) != image_uri(two)
    assert policy_name(one) == policy_name(two) != policy_name(DeployOptions(name="a", account="1", region=REGION))


def test_nothing_but_the_requirements_goes_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["*", "!src/requirements.txt"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert all(line.startswith("COPY --from=driver ") for line in dockerfile.splitlines() if "COPY" in line)
    assert "\nADD" not in dockerfile
    assert "python:3.12" in dockerfile, "as the tag says"


def test_every_image_is_named_in_full() -> None:
    """podman asks which registry a short name belongs to, and nobody may be there to answer."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 3
    assert all(base.startswith("docker.io/") for base in bases)


def test_the_newer_driver_is_where_the_container_looks_for_it() -> None:
    """The CUDA of torch, of the libraries, and the folder that container.sh asks for."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    (torch,) = (line.partition("=")[2] for line in dockerfile.splitlines() if line.startswith("ARG TORCH="))
    assert f"cuda-compat-{CUDA_OF[torch]}-0\n" in dockerfile
    place = "/usr/local/cuda/compat"
    assert f"COPY --from=driver /usr/local/cuda-{CUDA_OF[torch]}.0/compat {place}\n" in dockerfile
    assert place in (ROOT / "src/wrn/aws/container.sh").read_text()


def test_no_image_without_code_for_the_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (torch,) = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG TORCH="))
    assert torch.removeprefix("ARG TORCH=") in CUDA_OF, "say which CUDA the new one is built for"
    auto = ["deploy", "--dry-run", "--dataset", "synthetic", "--image-uri", "auto", "--instance-type"]
    for words in (["p3.2xlarge"], ["p3dn.24xlarge"], ["g5.xlarge", "--fallback", "p3.2xlarge"]):
        assert main([*auto, *words]) == 2
        error = capsys.readouterr().err
        assert "has V100 GPUs, which CUDA 13 in the image of `wrn image push` does not support" in error
        assert "leave out --image-uri to use AWS's 2.8 image" in error
    assert main([*auto, "g4dn.xlarge"]) == 0
    assert main([*(word for word in auto if word not in ("--image-uri", "auto")), "p3.2xlarge"]) == 0
    assert "pytorch-training:2.8.0-gpu-py312-cu129" in capsys.readouterr().out
    (tmp_path / "Dockerfile").write_text("ARG TORCH=torch==2.13.0+cu126\n")
    check_gpu(tmp_path, "ml.p3.2xlarge")
