"""Several processes on this machine, over gloo: the same numbers as one, and no deadlock whatever happens to one."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_files import write_pictures
from wrn.distributed.processes import PATIENCE

pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("process_worker.py")
FORCED = "forcefully exiting via"
"""What torchrun prints when it kills a process that SIGTERM did not end."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), ("a", "b", "c"), each=20)


def environment(**extra: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "WRN_"))}
    return {**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}", **extra}


def torchrun(processes: int, *command: str, restarts: int = 0) -> list[str]:
    flags = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *flags, *command]


def train_flags(pictures: Path, run: Path, **keys: Any) -> list[str]:
    values = {
        **{"dataset": "folder", "data_dir": pictures, "output_dir": run, "depth": 10, "widen_factor": 1},
        **{"epochs": 3, "batch_size": 20, "warmup_epochs": 1, "device": "cpu", "mixup_alpha": 0.2, "progress": "plain"},
        **{"val_fraction": 0, **keys},
    }
    return [word for key, value in values.items() for word in (f"--{key.replace('_', '-')}", str(value))]


VARIANTS: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "plain": {},
        "mix, accumulation, clipping": {
            **{"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "ema_decay": 0.9, "micro_batch": 3, "gradient_clip": 0.5}
        },
        "sam": {"sam_rho": 0.05, "sam_batch": 2},
        "muon": {"optimizer": "muon", "augment": "trivialaugment"},
        "compiled": {"compile": True, "micro_batch": 3},
        "compiled sam": {"compile": True, "sam_rho": 0.05, "sam_batch": 2},
    },
    4: {"plain": {}},
}
"""By the number of processes: all of one number are run by one launch."""


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What a launch of so many processes saw of its variants."""

    @functools.cache
    def launch(processes: int) -> dict[str, Any]:
        out = tmp_path_factory.mktemp(f"steps-{processes}") / "facts.json"
        command = torchrun(processes, str(WORKER), str(out), json.dumps(VARIANTS[processes]))
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(out.read_text()))

    return launch


@pytest.mark.parametrize(
    ("processes", "name"), [(processes, name) for processes, variants in VARIANTS.items() for name in variants]
)
def test_twenty_steps_agree_with_one_process(
    processes: int, name: str, launched: Callable[[int], dict[str, Any]]
) -> None:
    """BN is frozen, as each process has its own statistics. SAM's units are the same in both."""
    facts = launched(processes)[name]
    alone, together = facts["alone"], facts["together"]
    assert alone["steps"] == together["steps"] == 20
    # Rounding errors differ between CPUs and grow with each step: up to 7e-5 of a loss and 9e-5 of a norm were seen.
    assert together["losses"] == pytest.approx(alone["losses"], rel=5e-4)
    assert together["images"] == alone["images"]
    assert together["test"] == pytest.approx(alone["test"], rel=2e-3)
    assert together["weights"] == pytest.approx(alone["weights"], rel=2e-4, abs=5e-4)


def test_leaving_does_not_hang(tmp_path: Path) -> None:
    """A race at the end of a run, once in tens of runs: see `_outliving` in distributed/processes.py."""
    command = torchrun(2, str(WORKER.with_name("goodbye_worker.py")), "20")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_process_may_be_late_where_kernels_are_compiled_and_nowhere_else() -> None:
    """Late in its backward pass, when the others already wait for its gradients."""
    command = torchrun(2, str(WORKER.with_name("late_worker.py")))
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=250, check=False)
    assert "lost: process 1 on " in done.stdout, done.stdout + done.stderr[-3000:]
    assert "hangs: last heard from" in done.stdout
    assert "in step 2 " in done.stdout


def test_three_processes_write_what_any_run_writes_and_resume_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    """Three is the smallest number for which the order of a sum matters. The signal goes to the command alone, which
    forwards it and reports one stop; it is one that torchrun does not handle unless asked to."""
    models = []
    for name in ("whole", "stopped"):
        run = tmp_path / name
        keys = {"epochs": 4, "batch_size": 4, "scale_lr": "linear", "val_fraction": 0.2, "ema_decay": 0.9}
        flags = train_flags(pictures, run, processes=3, optimizer="muon", **keys)
        command = [sys.executable, str(ROOT / "src/train.py"), *flags]
        if name == "stopped":
            process = subprocess.Popen(
                command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                if " epoch=2 " in line:
                    process.send_signal(signal.SIGUSR1)
                    break
            out, error = process.communicate(timeout=150)
            assert process.returncode == 3, out + error
            assert "Traceback" not in error
            assert re.search(r"stopped by .* after step \d+; saved", error)
            assert error.count("stopped by") == 1, "once, not by each process"
            assert list((run / "checkpoints").glob("*.sha256"))
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("resumed from step " in done.stdout) == (name == "stopped")
        assert "on 3 x cpu" in done.stdout
        assert done.stdout.count("done in ") == 1
        rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
        assert json.loads((run / "metrics.json").read_text())["images"] == 60
        written = yaml.safe_load((run / "config.yaml").read_text())
        assert (written["training"]["batch_size"], written["machine"]["scale_lr"]) == (12, "none"), (
            "used as a recipe, it would scale again"
        )
        models.append((run / "model/model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_two_hosts_of_a_sagemaker_job_find_each_other(pictures: Path, tmp_path: Path) -> None:
    """Both hosts are this machine, under two names; each has its own /opt/ml, as in a job without the toolkit."""
    hosts = ["127.0.0.1", "localhost"]
    started = []
    for host in hosts:
        base = tmp_path / host
        (base / "input/config").mkdir(parents=True)
        (base / "input/config/hyperparameters.json").write_text("{}")
        (base / "input/config/resourceconfig.json").write_text(json.dumps({"current_host": host, "hosts": hosts}))
        flags = train_flags(pictures, tmp_path, device="cpu")
        flags = flags[: flags.index("--output-dir")] + flags[flags.index("--output-dir") + 2 :]
        started.append(
            subprocess.Popen(
                [sys.executable, str(ROOT / "src/train.py"), *flags],
                env=environment(SAGEMAKER_BASE_DIR=str(base)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    results = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], results
    assert "on 2 x cpu" in results[0][0]
    assert "done in " in results[0][0]
    assert "done in " not in results[1][0]
    assert (tmp_path / hosts[0] / "model/model.safetensors").is_file()
    assert not list((tmp_path / hosts[1]).rglob("*.safetensors"))


def test_the_world_may_shrink_between_interruption_and_resume(pictures: Path, tmp_path: Path) -> None:
    """Only one of two processes gets the signal; then a single process resumes from the same sample position."""
    run = tmp_path / "run"
    flags = train_flags(pictures, run, epochs=60, checkpoint_minutes=0)
    script = str(ROOT / "src/train.py")
    process = subprocess.Popen(
        torchrun(2, script, *flags), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    second = 0
    for line in process.stdout:
        if " epoch=1 " in line:
            second = worker_pid(process.pid, rank=1)
        if " epoch=2 " in line:
            break
    os.kill(second, signal.SIGTERM)
    out, error = process.communicate(timeout=150)
    saved = re.search(r"after step (\d+); saved", error)
    assert saved, out + error
    step = int(saved[1])
    done = subprocess.run(
        [sys.executable, script, *flags],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resumed from step {step} " in done.stdout
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3 * epoch for epoch in range(1, 61)]


def test_without_torchrun_the_processes_save_and_end(pictures: Path, tmp_path: Path) -> None:
    """SLURM sends SIGUSR1 to every process of a step, and torchrun does not handle it by default."""
    run = tmp_path / "run"
    command = torchrun(2, str(ROOT / "src/train.py"), *train_flags(pictures, run, epochs=5000, eval_epochs=0))
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if " epoch=2 " in line:
            break
    process.send_signal(signal.SIGUSR1)
    out, error = process.communicate(timeout=100)  # until all processes have closed their end of the pipes
    assert process.returncode == -signal.SIGUSR1
    assert re.search(r"stopped by the end of torchrun after step \d+; saved", error), out + error
    assert list((run / "checkpoints").glob("*.sha256"))


def worker_pid(agent: int, rank: int) -> int:
    """The training process of this rank, started by torchrun."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("finds processes by Linux's /proc")
    text = subprocess.run(["ps", "-o", "pid=", "--ppid", str(agent)], capture_output=True, text=True, check=True).stdout
    (pid,) = [pid for pid in text.split() if f"RANK={rank}" in Path("/proc", pid, "environ").read_text().split("\0")]
    return int(pid)


@pytest.mark.parametrize(
    ("number", "patience", "least", "most"),
    # A closed connection is noticed at once, a silent one after PATIENCE. The rest is a margin for busy machines.
    [(signal.SIGKILL, 40, 0, 20), (signal.SIGSTOP, 8, 7, 26)],
    ids=["dies", "hangs"],
)
def test_a_process_that_dies_or_hangs_ends_the_job_within_a_minute(
    number: signal.Signals, patience: int, least: float, most: float, pictures: Path, tmp_path: Path
) -> None:
    assert timedelta(seconds=40) >= PATIENCE, "with the 18 s that it may take to be seen, less than a minute"
    base = tmp_path / "ml"
    (base / "input/config").mkdir(parents=True)
    (base / "input/config/hyperparameters.json").write_text("{}")
    flags = train_flags(pictures, tmp_path / "run", epochs=5000, eval_epochs=0, checkpoint_epochs=0)
    process = subprocess.Popen(
        torchrun(2, str(WORKER.with_name("patient_worker.py")), str(patience), *flags),
        env=environment(SAGEMAKER_BASE_DIR=str(base)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if " epoch=3 " in line:
            break
    os.kill(worker_pid(process.pid, rank=1), number)
    try:
        _, error = process.communicate(timeout=200)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    assert FORCED not in error, "torchrun waited for a hung process"
    told = [line for line in error.splitlines() if line.startswith("wrn train: process 1 on ")]
    assert told, error[-3000:]
    silent = re.search(r"died or hangs: last heard from (\d+) s ago", told[0])
    assert silent, told[0]
    assert least <= int(silent[1]) <= most
    assert (base / "output/failure").read_text().startswith("LostProcess: process 1 on ")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without, restarts need --output-dir")
def test_a_restart_by_torchrun_resumes(pictures: Path, tmp_path: Path) -> None:
    """Nobody gave a folder: the restarted processes find that of the ones before."""
    flags = train_flags(pictures, tmp_path, epochs=40, checkpoint_epochs=1)
    flags = flags[: flags.index("--output-dir")] + flags[flags.index("--output-dir") + 2 :]
    process = subprocess.Popen(
        torchrun(2, str(ROOT / "src/train.py"), *flags, restarts=1),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    lines = []
    victim, killed = 0, False
    for line in process.stdout:
        lines.append(line)
        victim = victim or (worker_pid(process.pid, rank=1) if " epoch=1 " in line else 0)
        if victim and not killed and list(tmp_path.glob("runs/*/checkpoints/step-*.sha256")):
            os.kill(victim, signal.SIGKILL)
            killed = True
    _, error = process.communicate(timeout=150)
    assert process.returncode == 0, error[-3000:]
    assert killed
    assert any(line.startswith("resumed from step ") for line in lines)
    (run,) = tmp_path.glob("runs/*")
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 41))


def test_a_mistake_common_to_all_is_reported_without_waiting(pictures: Path, tmp_path: Path) -> None:
    flags = train_flags(pictures, tmp_path / "run", batch_size=61, processes=2)
    done = subprocess.run(
        [sys.executable, str(ROOT / "src/train.py"), *flags],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "batch_size 61 is larger than the 60 training images" in done.stderr
    assert FORCED not in done.stderr, "one of them waited for the other"
