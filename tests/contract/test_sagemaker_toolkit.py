"""AWS's own toolkit (sagemaker-training with sagemaker-pytorch-training, as in AWS's images) runs what we send.

Tuning jobs cannot name an entry point, so there this toolkit fetches the code from S3, makes flags of hyperparameters
and starts `src/train.py`; here it does so on this machine. `make contract` installs it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")
# Not imported here: on import it makes folders and sets variables.
if importlib.util.find_spec("sagemaker_training") is None or not Path(sys.executable).with_name("train").exists():
    pytest.skip("needs sagemaker-training, of the extra contract: make contract", allow_module_level=True)

from aws_account import BUCKET, ROOT, client, create, describe, furnish, keys, weights, wrn_job
from data_files import write_pictures
from standin import StandIn
from standin.job import TrainingJob
from wrn.aws.local.sandbox import best_isolation

pytestmark = pytest.mark.xdist_group("processes")

PYTORCH = "sagemaker_pytorch_container.training:main"
"""What AWS's PyTorch images set as SAGEMAKER_TRAINING_MODULE."""


@pytest.fixture
def aws(
    request: pytest.FixtureRequest, tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """With /opt/ml in its place where the machine allows it, unless another isolation is asked for."""
    isolation, cache = getattr(request, "param", best_isolation()), {"XDG_CACHE_HOME": str(shared_cache)}
    server = StandIn(tmp_path / "jobs", isolation=isolation, grace=20, environment=cache)
    server.start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    furnish(server.account)
    for path in write_pictures(tmp_path / "pictures", each=4).rglob("*.png"):
        client("s3").upload_file(str(path), BUCKET, f"pictures/{path.relative_to(tmp_path / 'pictures').as_posix()}")
    yield server
    server.reset()
    server.close()


def run(aws: StandIn, name: str, hosts: int = 1, **hyperparameters: Any) -> TrainingJob:
    """The job as a tuning job would start it: no entry point, no channel with the code. By default with the archive
    that `wrn deploy` sends."""
    request = wrn_job(name, {"instance_count": hosts}, epochs=2)
    algorithm = request["AlgorithmSpecification"]
    del algorithm["ContainerEntrypoint"], algorithm["ContainerArguments"]
    (code,) = [channel for channel in request["InputDataConfig"] if channel["ChannelName"] == "code"]
    request["InputDataConfig"].remove(code)
    (archive,) = keys("wrn/code/")
    request["HyperParameters"] |= {
        "sagemaker_program": "src/train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/{archive}",
        "sagemaker_region": "us-east-1",
        "_tuning_objective_metric": "top1",
        **hyperparameters,
    }
    request["Environment"] = {"SAGEMAKER_TRAINING_MODULE": PYTORCH}
    if hosts == 1:
        # The toolkit waits until the name of each host is known, which without namespaces is that of no machine.
        request["Environment"]["SM_STUDIO_LOCAL_MODE"] = "true"
    create(request)
    job = aws.job(name)
    job.join()
    return job


@pytest.mark.parametrize("aws", sorted({"folders", best_isolation()}), indirect=True)
def test_one_host(aws: StandIn) -> None:
    job = run(aws, "one", nesterov="false")
    assert job.status == "Completed", f"{job.reason}\n{job.output}"
    assert "Reporting training SUCCESS" in job.output
    assert "Installing dependencies from requirements.txt" in job.output
    assert "would have been extracted outside" not in job.output
    assert (job.output.count("fresh start"), job.output.count(" epoch=2 ")) == (1, 1)
    assert {"s3:GetObject"} <= aws.actions("job"), "the toolkit fetched the code itself, with the role"
    found = describe("one")
    assert {entry["MetricName"]: entry["Value"] for entry in found["FinalMetricDataList"]}["epoch"] == 2
    assert len(weights(found["ModelArtifacts"]["S3ModelArtifacts"])) > 1000


@pytest.mark.parametrize("launcher", ["ours", "theirs"])
def test_two_hosts_train_together(aws: StandIn, launcher: str) -> None:
    """ours: the toolkit starts one process on each host, which starts torchrun. theirs: the toolkit starts torchrun."""
    theirs = {"sagemaker_torch_distributed_enabled": "true", "sagemaker_instance_type": "ml.m5.large"}
    job = run(aws, f"pair-{launcher}", 2, **(theirs if launcher == "theirs" else {}))
    assert job.status == "Completed", f"{job.reason}\n{job.output}"
    assert ("Starting distributed training through torchrun" in job.output) == (launcher == "theirs")
    assert job.output.count("fresh start") == 1, "the two trained each for itself"
    assert job.output.count(" epoch=2 ") == 1
    assert len(weights(describe(job.name)["ModelArtifacts"]["S3ModelArtifacts"])) > 1000


@pytest.mark.parametrize("command", ["as documented", "tar -C src -czf sourcedir.tar.gz ."])
def test_an_archive_of_src_alone(command: str, aws: StandIn, tmp_path: Path) -> None:
    """With its requirements and recipes. It is a copy with a recipe and a mark of its own, so that nothing of an
    installed package can stand in."""
    if command == "as documented":
        (command,) = re.findall(r"^tar .*", (ROOT / "docs/sagemaker.md").read_text(encoding="utf-8"), re.MULTILINE)[-1:]
    compiled = shutil.ignore_patterns("__pycache__")
    source = shutil.copytree(ROOT / "src", tmp_path / "src", symlinks=True, ignore=compiled)
    (source / "wrn/recipes/configs/mine.yaml").write_text("batch_size: 6\naugment: trivialaugment\n")
    with (source / "wrn/training/trainer.py").open("a") as file:
        file.write('print("code:", __file__, flush=True)\n')
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    client("s3").upload_file(str(tmp_path / "sourcedir.tar.gz"), BUCKET, "mine/sourcedir.tar.gz")
    where: dict[str, Any] = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/mine/sourcedir.tar.gz",
    }
    job = run(aws, "alone", recipe="mine", **where)
    assert job.status == "Completed", f"{job.reason}\n{job.output}"
    assert "Installing dependencies from requirements.txt" in job.output
    assert "code: /opt/ml/code/wrn/training/trainer.py" in job.output or best_isolation() == "folders"
    assert str(source) not in job.output
    assert (job.output.count("fresh start"), job.output.count(" epoch=2 ")) == (1, 1)


def test_the_reason_of_a_failure_is_ours(aws: StandIn) -> None:
    """The toolkit would say "ExecuteUserScriptError", and leaves alone what a program has written before it."""
    job = run(aws, "wrong", depth="11")
    assert job.status == "Failed"
    assert job.reason.startswith("AlgorithmError: ConfigError: depth (flag): ")


def test_signals_are_not_handed_on() -> None:
    """Why jobs name their own entry point: nothing in the toolkit hands SIGTERM on (its issue 125)."""
    spec = importlib.util.find_spec("sagemaker_training")
    assert spec is not None
    assert spec.submodule_search_locations
    sources = [path.read_text() for path in Path(spec.submodule_search_locations[0]).rglob("*.py")]
    assert not any("SIGTERM" in source for source in sources), "it does now: the entry point may no longer be needed"
