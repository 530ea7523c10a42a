from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import Recorder, tiny_config, tiny_dataset
from wrn.config import Config, run_paths
from wrn.distributed.environment import Place
from wrn.distributed.launcher import launch, several_processes
from wrn.distributed.processes import DistributedProcesses, Processes
from wrn.errors import ConfigError, DataError, TrainingError
from wrn.model import machine
from wrn.training import parts
from wrn.training.folders import has_own_folder
from wrn.training.run import find_data, for_processes, prepare
from wrn.training.stop import StopSignal

HERE: dict[str, str] = {"SAGEMAKER_BASE_DIR": "/nowhere"}


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/hyperparameters.json").write_text("{}")
    return {"SAGEMAKER_BASE_DIR": str(tmp_path)}


def test_one_process_is_this_one() -> None:
    assert several_processes(Config(), [], HERE) is None
    assert several_processes(Config(processes=1), [], HERE) is None


def test_already_under_torchrun() -> None:
    assert several_processes(Config(processes=2), [], {**HERE, "RANK": "0"}) is None


def test_the_same_flags_go_to_every_process() -> None:
    command = several_processes(Config(processes=2, device="cpu"), ["--lr", "0.1"], HERE)
    assert command is not None
    assert command[:2] == ["--standalone", "--nproc-per-node=2"]
    assert command[2].endswith("wrn/__main__.py")
    assert command[3:] == ["train", "--lr", "0.1"]


@pytest.mark.usefixtures("four_gpus")
def test_every_gpu_on_sagemaker_and_one_elsewhere(job: dict[str, str]) -> None:
    command = several_processes(Config(), [], job)
    assert command is not None
    assert "--nproc-per-node=4" in command
    assert several_processes(Config(), [], HERE) is None
    assert several_processes(Config(device="cpu"), [], job) is None
    with pytest.raises(ConfigError, match="processes: 8 is more than the 4 GPUs"):
        several_processes(Config(processes=8), [], HERE)


OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (x@y-23.3)  Tue Sep 23 2025"
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025"


@pytest.mark.parametrize(
    ("driver", "cuda", "words"),
    [
        (
            OPEN,
            "13.0",
            r"\(the driver is 580.95.05, torch is built for CUDA 13.0\); give an --image-uri whose CUDA version",
        ),
        (PROPRIETARY, None, r"550.163.01, torch is built without CUDA\); give an --image-uri"),
        ("?", "13.0", "the driver is unknown"),
    ],
)
def test_an_unusable_gpu_on_sagemaker_is_an_error(
    driver: str, cuda: str | None, words: str, job: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # the driver counts it anyway
    several_processes(Config(), [], job)  # a machine without a GPU has no driver
    (tmp_path / "version").write_text(f"{driver}\nGCC version:  gcc version 11.4.1\n")
    for environ in (job, {**job, "RANK": "0"}):
        for device in ("auto", "cuda"):
            with pytest.raises(ConfigError, match=f"device: torch sees no CUDA device here .*{words}"):
                several_processes(Config(device=device), [], environ)
    several_processes(Config(device="cpu"), [], job)
    several_processes(Config(), [], HERE)
    several_processes(Config(), [], {**job, "WRN_REHEARSAL": "1"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    several_processes(Config(), [], job)


def test_an_unusable_local_gpu_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the run would continue on the CPU, many times slower, with the word cpu as the only sign."""
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(parts, "open_dataset", lambda *arguments, **named: tiny_dataset())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "version").write_text(OPEN)

    def notes(name: str, device: str) -> str:
        recorder = Recorder()
        config = tiny_config(tmp_path / name, device=device)
        paths = run_paths(config, "tiny", HERE)
        paths.run.mkdir()
        prepare(config, paths, recorder, Processes(), torch.device("cpu"))
        return "\n".join(recorder.notes)

    assert "training on the CPU: torch cannot use this machine's NVIDIA GPU (the driver is 580.95.05" in notes(
        "a", "auto"
    )
    assert "NVIDIA" not in notes("b", "cpu")


class Second(Processes):
    """The second of two processes, whose first one has found other data."""

    def first_does(self, action: Any) -> Any:
        return tiny_dataset(images=64).identity()


def test_a_process_with_other_data_than_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "open_dataset", lambda *arguments, **named: tiny_dataset())
    config = tiny_config(tmp_path)
    with pytest.raises(DataError, match=r"60 training images here, 64 there"):
        find_data(config, None, run_paths(config, "tiny", HERE), Recorder(), Second())


def test_several_hosts_of_one_process(job: dict[str, str]) -> None:
    environ = {**job, "SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2"}
    command = several_processes(Config(device="cpu"), [], environ)
    assert command is not None
    assert {"--nnodes=2", "--node-rank=1", "--nproc-per-node=1", "--master-addr=algo-1"} <= set(command)


def test_the_linear_scaling_rule_scales_batch_and_rates_together() -> None:
    config = Config(batch_size=128, lr=0.1, min_lr=0.001, scale_lr="linear")
    assert for_processes(config, Place()) is config
    scaled = for_processes(config, Place(world_size=4))
    assert (scaled.batch_size, scaled.lr, scaled.min_lr) == (512, 0.4, 0.004)
    shared = Config(batch_size=128)
    assert for_processes(shared, Place(world_size=4)) is shared


def test_processes_share_the_threads_that_this_one_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all cores of the machine: a scheduler or taskset may have assigned fewer."""
    environ: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", environ)  # keeps its settings out of later tests
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: None)
    assert launch(["--standalone", "--nproc-per-node=3", "x.py"]) == 0
    assert environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("hosts", "interface"), [(["a", "b"], "eth1"), (["a"], None)])
def test_hosts_connect_over_the_interface_that_sagemaker_names(
    hosts: list[str], interface: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"hosts": hosts, "current_host": hosts[-1], "network_interface_name": "eth1"}
    environ = {"SM_MODEL_DIR": "/x", "SM_RESOURCE_CONFIG": json.dumps(facts), "NCCL_SOCKET_IFNAME": "mine"}
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: None)
    assert launch(["--standalone", "--nproc-per-node=3", "x.py"]) == 0
    assert (environ.get("GLOO_SOCKET_IFNAME"), environ["NCCL_SOCKET_IFNAME"]) == (interface, "mine")
    assert environ.get("SM_CURRENT_HOST") == (interface and "b"), "else all would have the name that each calls itself"


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN])
def test_torchrun_forwards_what_stops_a_run(hangup: signal.Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    seen: list[str] = []
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: seen.append(arguments.signals_to_handle))
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        assert launch(["--standalone", "--nproc-per-node=3", "x.py"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    (handled,) = seen
    assert ("SIGHUP" in handled.split(",")) == (hangup is signal.SIG_DFL), "nohup would be in vain"
    assert {"SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1"} <= set(handled.split(","))


def test_a_signal_that_torchrun_does_not_handle_ends_it_as_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: os.kill(os.getpid(), signal.SIGUSR1))
    with StopSignal():
        assert launch(["--standalone", "--nproc-per-node=3", "x.py"]) == 3


def test_mps_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.run.pick_device", lambda name: torch.device("mps"))
    with pytest.raises(ConfigError, match="processes: MPS works with one process only; give --device cpu"):
        for_processes(Config(device="mps"), Place(world_size=2))
    lines: list[str] = []
    assert for_processes(Config(), Place(world_size=2), lines.append).device == "cpu"
    assert lines == ["device: cpu instead of auto, as there are 2 processes"]


@pytest.mark.parametrize("parts", [{"sam_rho": 0.05}, {"micro_batch": 4}])
def test_sync_bn_takes_whole_batches_only(parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.run.pick_device", lambda name: torch.device("cuda"))
    with pytest.raises(ConfigError, match="sync_bn: works with whole batches only"):
        for_processes(Config(sync_bn=True, **parts), Place(world_size=2))
    default = Config(sync_bn=True).adapted(**parts)
    adapted = for_processes(default, Place(world_size=2))
    assert (adapted.sync_bn, adapted.sam_rho, adapted.micro_batch) == (True, 0.0, "auto")
    assert not for_processes(Config(**parts).adapted(sync_bn=True), Place(world_size=2)).sync_bn


def test_what_several_processes_cannot_do() -> None:
    with pytest.raises(ConfigError, match="sync_bn: needs GPUs"):
        for_processes(Config(sync_bn=True), Place(world_size=2))
    with pytest.raises(ConfigError, match="device: cuda:1 is one GPU; give --device cuda for several processes"):
        for_processes(Config(device="cuda:1"), Place(world_size=2))
    with pytest.raises(ConfigError, match="compile: graphs works with one process only"):
        for_processes(Config(compile="graphs"), Place(world_size=2))
    with pytest.raises(ConfigError, match="resume: with never, each restart by torchrun would start from there again"):
        for_processes(Config(output_dir=Path("x"), resume="never"), Place(world_size=2, may_restart=True))


def test_defaults_adapt_to_several_processes() -> None:
    lines: list[str] = []
    default = Config(lr=0.2).adapted(device="cuda:1", compile="graphs", sync_bn=True)
    adapted = for_processes(default.adapted(device="cpu"), Place(world_size=2), lines.append)
    assert (adapted.compile, adapted.sync_bn, adapted.given) == (True, False, {"lr"})
    assert lines == [
        "compile: true instead of graphs, as there are 2 processes",
        "sync_bn: false instead of true, as there is no GPU",
    ]


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_that_torchrun_restarts_finds_its_folder(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(epochs=20)
    first, second = (
        for_processes(config, Place(world_size=world_size, may_restart=True, attempt=attempt)) for attempt in (0, 1)
    )
    assert first.output_dir == second.output_dir
    assert first.output_dir is not None
    assert first.output_dir.parent == Path("runs")
    assert has_own_folder(first), "so that the hint to resume names the folder"
    given = Config(output_dir=Path("x"))
    assert for_processes(given, Place(world_size=world_size, may_restart=True)) is given
    monkeypatch.setattr("wrn.training.run.folder_of_torchrun", lambda: None)  # as on macOS
    with pytest.raises(ConfigError, match="output_dir: is unset"):
        for_processes(config, Place(world_size=world_size, may_restart=True))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 10_000])
def test_shares_of_an_evaluation_cover_every_image_once(size: int, count: int) -> None:
    seen: list[int] = []
    for rank in range(size):
        processes = Processes()
        processes.place = Place(rank=rank, world_size=size)
        seen += range(count)[processes.rows(count)]
    assert seen == list(range(count))


def test_the_processes_run_the_package_that_starts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started from a file path, in a Python where wrn is not installed, as in a training container."""
    monkeypatch.setattr("torch.distributed.run.run", lambda arguments: None)
    monkeypatch.setenv("PYTHONPATH", "before")
    monkeypatch.setattr("os.environ", dict(os.environ))
    command = several_processes(Config(processes=2, device="cpu"), [], HERE)
    assert command is not None
    assert launch(command) == 0
    assert os.environ["PYTHONPATH"].split(os.pathsep)[1:] == ["before"]
    done = subprocess.run(
        [sys.executable, "-S", command[2], "--version"],
        env={"PYTHONPATH": os.environ["PYTHONPATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout[:4]) == (0, "wrn "), done.stderr


def test_broadcast_overwrites_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Including tensors that are not contiguous, such as channels-last ones."""
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, src: tensor.copy_(torch.ones(3, 2) * 7 + src))
    tensor = torch.zeros(2, 3).T
    DistributedProcesses.broadcast_from_first(DistributedProcesses.__new__(DistributedProcesses), [tensor])
    assert tensor.tolist() == [[7.0, 7.0]] * 3


def test_shared_memory_too_small_for_nccl_is_no_lost_process() -> None:
    """As in a container, which has 64 MB. The last line is NCCL's own."""
    text = (
        "NCCL error in: ProcessGroupNCCL.cpp:3384, unhandled system error (run with NCCL_DEBUG=INFO for details)\n"
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\n"
        "Last error:\n"
        "Error while creating shared memory segment /dev/shm/nccl-pHh6Cx (size 9), error: No space left on device (28)"
    )
    processes = DistributedProcesses.__new__(DistributedProcesses)
    with (
        pytest.raises(TrainingError, match=r"nccl-pHh6Cx .*No space left.* --shm-size=1g") as caught,
        processes.watched(),
    ):
        raise RuntimeError(text)
    assert "\n" not in str(caught.value)
