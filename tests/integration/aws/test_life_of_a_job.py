"""One job from its deployment to the teardown, told once: what was said, what was called, what was left.

Everything is done by one fixture, with a secret in the environment; the tests look at the record.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")

from aws_account import LOG_GROUP, client, keys_of
from data_files import write_pictures
from deployed import AWS, Desk, Said, folder_flags
from iam_rights import missing, unused
from standin import StandIn
from standin.wire import Call
from wrn.aws.account.deploy_permissions import deployer_policy
from wrn.aws.account.notifications import Notices
from wrn.aws.account.policies import role_policy
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources.permissions import clearing_policy

pytestmark = pytest.mark.xdist_group("life")  # one worker, and so one life

BUCKET = f"wrn-{StandIn.account}-us-east-1"
OPTIONS = DeployOptions(name="any", account=StandIn.account, instance_type="ml.m5.large")
SECRET = "hush-5f3a9c-never-to-be-seen"


@dataclass
class Record:
    """said: of each command. kept: the content of everything in the bucket before the teardown. told: what AWS knew of
    the jobs. resumed: the output of the job that went on. followed: seconds of the first command. calls: by phase of
    the life. left: what of each service was there after the teardown."""

    said: dict[str, Said] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    told: str = ""
    resumed: str = ""
    followed: float = 0.0
    calls: dict[str, list[Call]] = field(default_factory=dict)
    platform: list[Call] = field(default_factory=list)
    jobs: list[Call] = field(default_factory=list)
    left: dict[str, list[Any]] = field(default_factory=dict)
    by_cli: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def life(_server: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    folder = tmp_path_factory.mktemp("life")
    secrets = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
        "HF_TOKEN": SECRET,
        "WANDB_API_KEY": SECRET,
    }
    desk = Desk(_server, folder, more=secrets)
    pictures = folder_flags(write_pictures(folder / "pictures", each=4))
    record = Record()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _server.environment.items():
            patch.setenv(name, value)
        _live(desk, pictures, record)
    yield record
    _server.reset()


def _live(desk: Desk, pictures: tuple[str, ...], record: Record) -> None:
    aws, say = desk.aws, record.said
    begun = time.monotonic()
    say["first"] = desk.deploy("first", pictures, "--epochs", "3", "--monitor", "--debug", "--tags", "team=vision")
    record.followed = time.monotonic() - begun
    say["second"] = desk.deploy("second", pictures, "--epochs", "25", "--checkpoint-minutes", "0", "--debug")
    aws.job("second").wait_for_line(" epoch=2 ")
    with aws.job("second").held():
        say["stop"] = desk.wrn("stop", "second")
    aws.job("second").join()
    say["resume"] = desk.wrn("resume", "second", "--yes")
    aws.job("second-r2").join()
    for words in (["status", "first"], ["jobs"], ["logs", "first", "--json"]):
        say[words[0]] = desk.wrn(*words, *(["--json"] if words == ["jobs"] else []))
    say["fetch"] = desk.wrn("fetch", "first", "--output-dir", "run")
    say["evaluate"] = desk.wrn(
        "evaluate", "--model-dir", "run/model", "--data-dir", pictures[3], "--device", "cpu", "--json"
    )
    record.calls["use"] = list(aws.calls)
    if AWS.exists():
        stream = client("logs").describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix="first/")
        name = stream["logStreams"][0]["logStreamName"]
        for key, words in {
            "job": ["sagemaker", "describe-training-job", "--training-job-name", "first"],
            "log": ["logs", "get-log-events", "--log-group-name", LOG_GROUP, "--log-stream-name", name],
        }.items():
            done = subprocess.run([AWS, *words], env=desk.environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            record.by_cli[key] = json.loads(done.stdout)
    for key in keys_of(BUCKET):
        record.kept[key] = client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    jobs = [client("sagemaker").describe_training_job(TrainingJobName=name) for name in ("first", "second-r2")]
    role = client("iam").list_role_policies(RoleName="wrn-training")["PolicyNames"]
    documents = [client("iam").get_role_policy(RoleName="wrn-training", PolicyName=name) for name in role]
    output = [aws.job(name).output for name in ("first", "second", "second-r2")]
    record.resumed = output[-1]
    record.told = str([jobs, documents, output, client("s3").get_bucket_policy(Bucket=BUCKET)])
    before = len(aws.calls)
    say["costs"] = desk.wrn("costs", "--json")
    say["teardown"] = desk.wrn("teardown", "--yes")
    record.calls["teardown"] = aws.calls[before:]
    record.platform, record.jobs = list(aws.by_platform), list(aws.by_jobs)
    record.left = _everything()


def _everything() -> dict[str, list[Any]]:
    """Of every service that a deployment may use, what is there."""
    logs = client("logs")
    groups = logs.describe_log_groups()["logGroups"]
    sagemaker = client("sagemaker")
    return {
        "buckets": client("s3").list_buckets()["Buckets"],
        "roles": client("iam").list_roles()["Roles"],
        "policies": client("iam").list_policies(Scope="Local")["Policies"],
        "running jobs": sagemaker.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"],
        "models": sagemaker.list_models()["Models"],
        "endpoints": sagemaker.list_endpoints()["Endpoints"],
        "endpoint configurations": sagemaker.list_endpoint_configs()["EndpointConfigs"],
        "alarms": client("cloudwatch").describe_alarms()["MetricAlarms"],
        "dashboards": client("cloudwatch").list_dashboards()["DashboardEntries"],
        "repositories": client("ecr").describe_repositories()["repositories"],
        "topics": client("sns").list_topics()["Topics"],
        "rules": client("events").list_rules()["Rules"],
        "log streams": [
            stream["logStreamName"]
            for group in groups
            for stream in logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]
        ],
        "tagged": client("resourcegroupstaggingapi").get_resources(
            TagFilters=[{"Key": "created-by", "Values": ["wrn"]}]
        )["ResourceTagMappingList"],
    }


def test_deployed_followed_fetched_evaluated(life: Record) -> None:
    first = life.said["first"]
    assert "first: completed" in first.err
    assert first.out.count("fresh start: no checkpoint in") == 1
    assert [line.count(" epoch=") for line in first.out.splitlines()].count(1) == 3
    said = json.loads(life.said["evaluate"].out)
    metrics = next(line for line in first.out.splitlines() if line.startswith("done in "))
    assert f"top-1 {said['top1']:.2%}" in metrics
    assert "completed" in life.said["status"].out
    lines = [json.loads(line) for line in life.said["logs"].out.splitlines()]
    assert [entry["message"].strip() for entry in lines] == [
        line.strip() for line in first.out.split("job: first on")[1].split("\n") if line.strip()
    ][-len(lines) :]


def test_stopped_and_gone_on_with(life: Record) -> None:
    assert "second is stopping" in life.said["stop"].err
    assert "second-r2 started; it resumes from s3://" in life.said["resume"].err
    assert "resumed from step " in life.resumed
    assert "fresh start" not in life.resumed
    states = {entry["job"]: entry["status"] for entry in json.loads(life.said["jobs"].out)}
    assert states == {"first": "Completed", "second": "Stopped", "second-r2": "Completed"}


def test_few_calls(life: Record) -> None:
    """With the data there, 25 requests are the most. Following looks at the log once in two seconds (at most two pages
    where little is new, and the list of streams), at the job once in five."""
    assert life.said["second"].requests <= 25
    first = life.said["first"].err
    assert first.count("sagemaker DescribeTrainingJob") <= life.followed / 5 + 4
    assert first.count("logs GetLogEvents") <= 2 * life.followed / 2 + 12
    assert first.count("logs DescribeLogStreams") <= life.followed / 2 + 2


@pytest.mark.skipif(not AWS.exists(), reason="needs awscli, of the extra dev")
def test_the_aws_command_sees_the_job_and_its_log(life: Record) -> None:
    assert life.by_cli["job"]["TrainingJobStatus"] == "Completed"
    messages = [event["message"] for event in life.by_cli["log"]["events"]]
    assert any(" epoch=3 " in message for message in messages)


TO_THE_JOB = {
    "s3:AbortMultipartUpload": "a large model goes up in parts, which are given up when the job is stopped",
    "s3:GetBucketLocation": "SageMaker looks for the bucket's region; the stand-in has no need",
    "logs:DescribeLogStreams": "SageMaker's agent looks for its stream; the stand-in knows it",
    "ecr:BatchCheckLayerAvailability": "of pulling an image, which the stand-in does not",
    "ecr:BatchGetImage": "the same",
    "ecr:GetDownloadUrlForLayer": "the same",
    "ecr:GetAuthorizationToken": "the same",
}
"""Allowed to the role without being seen here, and why."""


def test_the_role_may_do_what_jobs_do_and_no_more(life: Record) -> None:
    # The stand-in asks whether role and bucket are there by these; SageMaker does not with this role.
    by_role = [call for call in [*life.platform, *life.jobs] if str(call) not in ("iam:GetRole", "s3:HeadBucket")]
    policy = role_policy(OPTIONS)
    assert missing(policy, by_role) == []
    assert unused(policy, by_role) == set(TO_THE_JOB)


TO_THE_DEPLOYER = {
    "s3:ListBucketMultipartUploads": "of files above 8 MiB, of which there was none here",
    "s3:ListMultipartUploadParts": "the same",
    "s3:PutBucketOwnershipControls": "asked by S3 for a bucket that is made without ACLs",
    "iam:UpdateAssumeRolePolicy": "to mend a role that was changed",
}
"""Allowed to whoever deploys without being seen here, and why."""


def test_the_deployer_may_do_what_is_called_and_no_more(life: Record) -> None:
    policy = deployer_policy([OPTIONS], Notices())
    calls = life.calls["use"]
    assert missing(policy, calls) == []
    assert {entry.split()[0] for entry in unused(policy, calls)} <= set(TO_THE_DEPLOYER) | {"s3:GetObject"}
    assert unused(policy, calls) - set(TO_THE_DEPLOYER) == set()


def test_the_one_who_clears_up_may_do_what_that_takes(life: Record) -> None:
    policy = clearing_policy([OPTIONS])
    assert missing(policy, life.calls["teardown"]) == []
    granted = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert not granted & {"s3:PutObject", "iam:PassRole", "sagemaker:CreateTrainingJob", "iam:PutRolePolicy"}


def test_no_secret_goes_anywhere(life: Record) -> None:
    for name, said in life.said.items():
        assert SECRET not in said.out + said.err, name
        assert "AKIATESTER" not in said.out + said.err, name
    assert SECRET not in life.told
    for key, content in life.kept.items():
        for name, part in _unpacked(key, content):
            assert SECRET.encode() not in part, name


def test_what_was_sent_is_code_alone(life: Record) -> None:
    (bundle,) = [content for key, content in life.kept.items() if key.startswith("wrn/code/")]
    names = [name for name, _ in _unpacked("bundle.tar.gz", bundle)][1:]
    assert {Path(name).suffix for name in names} <= {".py", ".cpp", ".h", ".sh", ".yaml", ".txt"}
    assert not [name for name in names if name.startswith((".", "tests", "data")) or "/." in name]


def test_nothing_is_left(life: Record) -> None:
    assert "everything was removed" in life.said["teardown"].err
    assert {name: found for name, found in life.left.items() if found} == {}


def _unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if name.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    yield member.name, stream.read()
