"""`wrn deploy` end to end, including errors along the way: against the stand-in for AWS, whose jobs really run."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")

from aws_account import LOG_GROUP, client, describe, keys_of, log_lines, steps, weights
from data_files import write_pictures
from deployed import ROOT, TINY, Desk, folder_flags
from standin import StandIn
from standin.wire import Call, Environ

BUCKET = f"wrn-{StandIn.account}-us-east-1"


@pytest.fixture
def desk(aws: StandIn, tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(aws, tmp_path / "desk")


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[str, ...]:
    return folder_flags(write_pictures(tmp_path / "pictures", each=4))


def test_two_at_once_and_one_of_them_interrupted_three_times(desk: Desk, pictures: tuple[str, ...]) -> None:
    """Both create what is missing, neither creates anything twice; interruptions do not change the result. What the
    stand-in tells of jobs that train: their steps, bills, logs and metrics."""
    flags = (*pictures, "--epochs", "60", "--checkpoint-minutes", "0")
    with ThreadPoolExecutor(2) as pool:
        spot = pool.submit(desk.deploy, "often", flags, "--spot")
        calm = pool.submit(desk.deploy, "never", flags)
        both = spot.result().err + calm.result().err
    assert "bucket: created" in both
    assert [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]] == [BUCKET]
    assert [role["RoleName"] for role in client("iam").list_roles()["Roles"]] == ["wrn-training"]
    assert len(client("iam").list_role_policies(RoleName="wrn-training")["PolicyNames"]) == 1
    assert len(keys_of(BUCKET, "wrn/code/")) == 1

    job = desk.aws.job("often")
    for number in range(3):
        # An epoch after the last start: something was learned since, and is to be kept.
        seen = job.output.count(" epoch=")
        job.wait_for_line(" epoch=", after=seen)
        desk.aws.interrupt("often")
        assert keys_of(BUCKET, "wrn/checkpoints/often/"), "nothing was saved before the machine went"
        step = job.wait_for_line("stopped by SIGTERM after step ", after=number).partition("after step ")[2]
        job.wait_for_line(f"resumed from step {step.partition(';')[0]} ")
    job.join()
    desk.aws.job("never").join()
    told, calm_told = describe("often"), describe("never")
    assert told["TrainingJobStatus"] == "Completed", job.output
    again = ["Starting", "Downloading", "Training", "Interrupted", "Restarting", "Downloading", "Training"]
    assert steps("often") == [*again, *again[3:], *again[3:], "Uploading", "Completed"]
    assert (job.output.count("fresh start"), job.output.count("resumed from step")) == (1, 3)
    assert 0 < told["BillableTimeInSeconds"] < told["TrainingTimeInSeconds"]
    assert {entry["MetricName"]: entry["Value"] for entry in told["FinalMetricDataList"]}["epoch"] == 60
    assert (calm_told["TrainingJobStatus"], calm_told["SecondaryStatus"]) == ("Completed", "Completed")
    assert calm_told["BillableTimeInSeconds"] == calm_told["TrainingTimeInSeconds"] > 0
    ends = [weights(answer["ModelArtifacts"]["S3ModelArtifacts"]) for answer in (told, calm_told)]
    assert ends[0] == ends[1]
    logged = [line for stream in job.streams for line in log_lines(stream)]
    assert logged == [line or " " for line in job.output.split("\n")]
    points = client("cloudwatch").get_metric_statistics(
        Namespace=LOG_GROUP,
        MetricName="train_loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": "never"}],
        StartTime=time.time() - 600,
        EndTime=time.time() + 60,
        Period=3600,
        Statistics=["SampleCount"],
    )["Datapoints"]
    assert sum(point["SampleCount"] for point in points) == 60


@pytest.mark.xdist_group("processes")
def test_two_hosts_train_together_with_the_code_that_was_sent(desk: Desk, tmp_path: Path) -> None:
    """A copy of the code that says where it runs from: not an installed package of the same name."""
    code = tmp_path / "clone"
    for name in ("src", "requirements.txt"):
        ignored = shutil.ignore_patterns("__pycache__")
        source = ROOT / name
        shutil.copytree(source, code / name, ignore=ignored) if source.is_dir() else shutil.copy(source, code / name)
    runner = code / "src/wrn/training/trainer.py"
    mark = (
        'import os\nprint("rank", *(os.environ.get(name) for name in ("RANK", "WORLD_SIZE")), __file__, flush=True)\n'
    )
    runner.write_text(runner.read_text() + mark)
    desk = Desk(desk.aws, desk.folder, code)
    data = folder_flags(write_pictures(tmp_path / "pictures", each=4))
    desk.deploy("pair", data, "--epochs", "2", "--instance-count", "2")
    job = desk.aws.job("pair")
    job.join()
    assert job.status == "Completed", f"{job.reason}\n{job.output}"
    ranks = sorted(line for line in job.output.splitlines() if line.startswith("rank ") and "None" not in line)
    where = "/opt/ml/code/src/wrn/training/trainer.py"
    if job._run is not None and job._run.isolation == "namespaces":
        assert ranks == [f"rank {rank} 2 {where}" for rank in (0, 1)]
    assert len(ranks) == 2
    assert all(str(code) not in line for line in ranks)
    assert job.output.count("fresh start") == 1, "the two trained each for itself"
    assert len(job.streams) == 2


def test_a_failure_is_told_with_its_reason(desk: Desk, pictures: tuple[str, ...]) -> None:
    """By the job itself: images that cannot be decoded."""
    broken = Path(pictures[3], "train/cat/0.png")
    broken.write_bytes(broken.read_bytes()[:40])
    desk.deploy("broken", pictures)
    job = desk.aws.job("broken")
    job.join()
    reason = describe("broken")["FailureReason"]
    assert reason.startswith("AlgorithmError: DataError: ")
    assert "0.png" in reason
    assert "Traceback" not in job.output
    assert "0.png" in desk.wrn("status", "broken").out
    assert "0.png" in desk.wrn("fetch", "broken", code=2).err


def test_capacity_comes_with_the_third_choice(desk: Desk, pictures: tuple[str, ...]) -> None:
    desk.aws.refuse_capacity(1, "ml.m5.large")
    desk.aws.refuse_capacity(1, "ml.m5.xlarge")
    done = desk.deploy("third", pictures, "--json", "--fallback", "m5.xlarge,us-west-2:m5.large")
    assert json.loads(done.out)["name"] == "third-3"
    assert (json.loads(done.out)["region"], json.loads(done.out)["instance_type"]) == ("us-west-2", "ml.m5.large")
    for name in ("third", "third-2"):
        assert describe(name)["FailureReason"].startswith("CapacityError")
    assert desk.aws.job("third-3", "us-west-2").status == "InProgress"
    assert "next: ml.m5.xlarge in us-east-1" in done.err
    assert len(client("s3").list_buckets()["Buckets"]) == 2


def test_the_time_limit_is_reached_and_resume_continues(desk: Desk, pictures: tuple[str, ...]) -> None:
    """Nobody gave a limit: the job has the default one, and what it learned until then is saved."""
    tiny = " ".join(TINY).replace("--max-runtime 10m ", "").split()
    flags = (*tiny, *pictures, "--epochs", "40", "--checkpoint-minutes", "0")
    desk.wrn("deploy", "--yes", "--name", "long", *flags)
    assert describe("long")["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    job = desk.aws.job("long")
    job.wait_for_line(" epoch=2 ")
    job.pass_time(86400)
    job.join()
    told = describe("long")
    assert (told["TrainingJobStatus"], told["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    step = job.wait_for_line("stopped by SIGTERM after step ").partition("after step ")[2].partition(";")[0]
    assert "resumes from s3://" in desk.wrn("resume", "long", "--yes", "--max-runtime", "9m").err
    again = desk.aws.job("long-r2")
    again.join()
    assert f"resumed from step {step} " in again.output
    assert "fresh start" not in again.output
    assert describe("long-r2")["TrainingJobStatus"] == "Completed"
    assert describe("long-r2")["StoppingCondition"] == {"MaxRuntimeInSeconds": 540}


def test_every_third_call_throttled(desk: Desk) -> None:
    """Without data to send: a client that is throttled slows down by itself, and waits longer than it works."""
    desk.aws.throttle(3)
    done = desk.deploy("patient", ("--dataset", "synthetic"), "--debug")
    desk.aws.throttle(0)
    assert done.requests <= 30, "14 that are needed, and those that were refused"
    assert desk.aws.job("patient").status == "InProgress"
    assert [name for name, _ in _jobs()] == ["patient"]
    assert client("s3").get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert client("iam").list_role_policies(RoleName="wrn-training")["PolicyNames"] == ["wrn-training-us-east-1"]
    assert len(keys_of(BUCKET)) == 1, "the code, once"


def test_a_name_in_use(desk: Desk, pictures: tuple[str, ...]) -> None:
    desk.deploy("same", pictures, "--epochs", "1")
    before = len(desk.aws.sent("CreateTrainingJob"))
    done = desk.deploy("same", pictures, "--epochs", "1", code=2)
    assert "name: a job same exists in us-east-1 already" in done.err
    assert "--name" in done.err
    assert len(desk.aws.sent("CreateTrainingJob")) == before + 1, "what is refused for good is not sent again"


def test_killed_on_the_way_and_repeated(desk: Desk, pictures: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is cut off, the same command resumes: nothing is created twice."""
    arrives, reached, killed = desk.aws.faults.arrives, threading.Event(), threading.Event()

    def hold(call: Call, environ: Environ) -> None:
        """The first such call is not answered before the one who called is gone."""
        arrives(call, environ)
        if str(call) == "s3:PutBucketPolicy" and not reached.is_set():
            reached.set()
            killed.wait(60)

    monkeypatch.setattr(desk.aws.faults, "arrives", hold)
    process = desk.start("deploy", "--yes", "--name", "cut", "--instance-type", "m5.large", *pictures)
    try:
        assert reached.wait(60)
    finally:
        process.kill()
        process.communicate()
        killed.set()
    assert process.returncode == -signal.SIGKILL
    assert _jobs() == []
    said_again = desk.deploy("cut", pictures, "--epochs", "1")
    assert "job: cut on" in said_again.out
    assert [name for name, _ in _jobs()] == ["cut"]
    assert len(client("s3").list_buckets()["Buckets"]) == 1
    rules = client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert {rule["ID"] for rule in rules} == {"old-checkpoints", "broken-uploads"}


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_data_set(desk: Desk, real_data: Path) -> None:
    """The official archive is uploaded in parts, once; the job finds it, trains on some of it, and its model works."""
    flags = ("--dataset", "cifar100", "--data-dir", str(real_data), "--train-images", "500", "--epochs", "1")
    first = desk.deploy("real", flags, "--batch-size", "100", "--monitor", "--debug")
    assert "169.0 MB to s3://" in first.err
    assert "test top-1" in first.err
    second = desk.deploy("again", flags, "--debug")
    assert "169.0 MB" not in second.err
    assert second.requests <= 25
    desk.wrn("fetch", "real", "--output-dir", "run")
    told = desk.wrn("evaluate", "--model-dir", "run/model", "--data-dir", str(real_data), "--device", "cpu", "--json")
    metrics = json.loads((desk.folder / "run/model/model.json").read_text())["metrics"]
    assert json.loads(told.out)["top1"] == pytest.approx(metrics["top1"], abs=1e-4)


def _jobs() -> list[tuple[str, str]]:
    found = client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return [(entry["TrainingJobName"], entry["TrainingJobStatus"]) for entry in found]
