"""`wrn deploy --local`: the job on this machine, through interruptions and stops, and the resulting folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from data_files import write_pictures
from wrn.aws.local.local_job import Rehearsal
from wrn.aws.local.runner import JobRun
from wrn.aws.local.sandbox import best_isolation
from wrn.aws.s3.code_archive import Bundle
from wrn.aws.s3.dataset_files import Parcel
from wrn.errors import AwsError

SOURCE = Path(__file__).resolve().parents[3] / "src"
SAVES = (
    "ls /opt/ml/checkpoints; trap 'date +%s%N > /opt/ml/checkpoints/step-$(date +%s%N); exit 3' TERM; "
    "echo ready; while :; do sleep 0.02; done"
)


class Job:
    """A rehearsal of a line of shell, and what it said."""

    def __init__(self, folder: Path, script: str, hosts: int = 1, seconds: int = 60, **more: Any) -> None:
        self.lines: list[str] = []
        self.told: list[str] = []
        data = folder.parent / "data.bin"
        data.write_bytes(b"12345")
        request = {
            "TrainingJobName": "try-1",
            "AlgorithmSpecification": {
                "ContainerEntrypoint": ["/bin/bash", "-c"],
                "ContainerArguments": [script],
            },
            "InputDataConfig": [
                {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": f"s3://b/{name}/"}}}
                for name in ("code", "training", "wheels")
            ],
            "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": hosts},
            "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        }
        self.rehearsal = Rehearsal(
            request=request,
            folder=folder,
            code=Bundle(b"code", ()),
            data=Parcel((("deep/data.bin", data),), "key"),
            region="eu-west-1",
            show=self._show,
            tell=self.told.append,
            grace=5.0,
            **more,
        )

    def _show(self, host: str, line: str) -> None:
        self.lines.append(line)

    def wait_for(self, line: str, times: int) -> None:
        """Until it has said this so often."""
        deadline = time.monotonic() + 50
        while self.lines.count(line) < times:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)

    def run(self) -> Any:
        self.rehearsal.claim()
        return self.rehearsal.run()


@pytest.mark.parametrize("isolation", sorted({best_isolation(), "folders"}))
def test_what_is_in_the_folder_afterwards(isolation: str, tmp_path: Path) -> None:
    script = (
        "cat /opt/ml/input/data/code/*.tar.gz /opt/ml/input/data/training/deep/data.bin; echo; "
        "mkdir /opt/ml/model/code; echo w > /opt/ml/model/code/w; echo h > /opt/ml/output/data/history.jsonl; "
        "echo c > /opt/ml/checkpoints/step-1; echo log > /opt/ml/output/data/log.txt"
    )
    job = Job(tmp_path / "job", script, settings={"isolation": isolation})
    outcome = job.run()
    assert outcome.status == "Completed"
    assert job.lines == ["code12345"]
    folder = tmp_path / "job"
    assert (folder / "model/code/w").read_text() == "w\n"
    assert outcome.model == folder / "model.tar.gz"
    assert (folder / "history.jsonl").read_text() == "h\n"
    assert (folder / "checkpoints/step-1").read_text() == "c\n"
    assert (folder / "log.txt").read_text() == "code12345\n", "the rehearsal's, not the job's file of this name"
    assert [path.name for path in (folder / "machines/algo-1").iterdir()] == ["checkpoints"]
    again = Job(folder, "cat /opt/ml/checkpoints/step-1; echo v > /opt/ml/model/v")
    assert again.run().status == "Completed"
    assert again.lines == ["c"]
    assert [path.name for path in (folder / "model").iterdir()] == ["v"]
    assert any("resuming from" in line for line in again.told)


def test_interrupted_as_often_as_asked_for(tmp_path: Path) -> None:
    script = f'[ "$(ls /opt/ml/checkpoints | wc -l)" = 2 ] && exit 0; {SAVES}'
    job = Job(tmp_path / "job", script, interruptions=(0.5, 0.7))
    taken: list[float] = []

    def take_away(seconds: float) -> None:
        """When it is time, and the job can take the signal."""
        taken.append(seconds)
        job.wait_for("ready", times=len(taken))
        interrupt(seconds)

    interrupt = job.rehearsal._interrupt
    job.rehearsal._interrupt = take_away  # type: ignore[method-assign]
    outcome = job.run()
    assert outcome.status == "Completed"
    assert taken == [0.5, 0.7]
    assert 1.0 < outcome.seconds < 60, "of all runs together"
    assert len(list((tmp_path / "job/checkpoints").iterdir())) == 2
    assert [line.partition(":")[0] for line in job.told] == [
        *("Downloading", "Training", "interrupting after 0.5 s", "Interrupted"),
        *("Downloading", "Training", "interrupting after 0.7 s", "Interrupted"),
        *("Downloading", "Training", "Uploading"),
    ]


def test_every_machine_begins_with_all_checkpoints(tmp_path: Path) -> None:
    script = "grep -q c /opt/ml/checkpoints/step-1 || exit 4; sleep 0.1"
    folder = tmp_path / "job"
    assert Job(folder, "echo c > /opt/ml/checkpoints/step-1").run().status == "Completed"
    assert Job(folder, script, hosts=2).run().status == "Completed"


def test_stopped(tmp_path: Path) -> None:
    job = Job(tmp_path / "job", SAVES)
    show = job.rehearsal.show

    def stop_when_ready(host: str, line: str) -> None:
        show(host, line)
        if line == "ready":
            threading.Thread(target=job.rehearsal.stop).start()

    job.rehearsal.show = stop_when_ready
    assert job.run().status == "Stopped"
    assert job.rehearsal.has_checkpoints
    early = Job(tmp_path / "early", SAVES)
    early.rehearsal.stop()
    assert early.run().status == "Stopped"
    assert early.lines == []


def test_the_time_limit_counts_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    class Noted(JobRun):
        def __init__(self, *arguments: Any, **keys: Any) -> None:
            super().__init__(*arguments, **keys)
            used.append(self.used)

    monkeypatch.setattr("wrn.aws.local.local_job.JobRun", Noted)
    job = Job(tmp_path / "job", SAVES, seconds=2, interruptions=(1,))
    assert job.run().status == "MaxRuntimeExceeded"
    assert used[0] == 0
    assert len(used) == 2
    assert used[1] >= 1, "what the first run took before it was interrupted"


def test_a_failure_leaves_the_machine_to_look_at(tmp_path: Path) -> None:
    outcome = Job(tmp_path / "job", "printf 'no reason' > /opt/ml/output/failure; exit 2").run()
    assert (outcome.status, outcome.reason) == ("Failed", "AlgorithmError: no reason, exit code: 2")
    assert (tmp_path / "job/machines/algo-1/input/config/resourceconfig.json").is_file()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/thesis.tex").touch()
    with pytest.raises(AwsError, match="holds other things; give an empty folder"):
        Job(tmp_path / "job", "true").run()


def wrn(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        environ.pop(name, None)
    command = [sys.executable, "-m", "wrn", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tiny(folder: Path, *more: str) -> list[str]:
    pictures = write_pictures(folder / "pictures")
    flags = ["--dataset", "folder", "--data-dir", pictures.name, "--depth", "10", "--widen-factor", "1"]
    flags += ["--warmup-epochs", "0", "--batch-size", "4", "--no-download", "--no-cpu-kernels"]
    return ["deploy", "--local", *flags, *more]


def test_a_whole_job_and_its_model(tmp_path: Path) -> None:
    """Without a network: nothing is fetched, and no request goes to AWS."""
    job = wrn(tmp_path, *tiny(tmp_path, "--epochs", "2", "--name", "mine", "--network-isolation"))
    out, err = job.communicate(timeout=200)
    assert job.returncode == 0, out + err
    assert "network_isolation: is not simulated" in err
    assert f"code: that of {SOURCE.parent} (" in err
    assert [line for line in err.splitlines() if line.startswith("-- ")][1] == "-- Training"
    log = (tmp_path / "runs/local/mine/log.txt").read_text()
    assert out.startswith(log)
    assert out.splitlines()[-1] == "next: wrn evaluate --model-dir runs/local/mine/model --data-dir pictures"
    assert json.loads((tmp_path / "runs/local/mine/request.json").read_text())["EnableNetworkIsolation"] is True
    scored = wrn(tmp_path, *out.splitlines()[-1].split()[2:])
    out, err = scored.communicate(timeout=100)
    assert scored.returncode == 0, err
    assert "top-1" in out


@pytest.mark.skipif(best_isolation() != "namespaces", reason="one way is enough")
def test_ctrl_c_saves_and_the_same_command_resumes(tmp_path: Path) -> None:
    flags = tiny(tmp_path, "--epochs", "100000", "--name", "mine", "--json")
    job = wrn(tmp_path, *flags)
    assert job.stderr is not None
    for line in job.stderr:
        if "epoch=1 " in line:
            break
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=100)
    assert job.returncode == 3, out + err
    assert "-- stopping: SIGTERM, and up to 120 s to save" in err
    result = json.loads(out)
    assert (result["status"], result["checkpoints"]) == ("Stopped", "runs/local/mine/checkpoints")
    again = wrn(tmp_path, *flags)
    assert again.stderr is not None
    for line in again.stderr:
        if "resumed from step" in line:
            break
    again.send_signal(signal.SIGTERM)
    out, err = again.communicate(timeout=100)
    assert json.loads(out)["status"] == "Stopped", err
