"""Every kind of `wrn bench` runs, prints and saves a record that says where its figures come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bench_data
import bench_scaling
import bench_train
from bench_data import augmentation, load_images, ours
from wrn.bench import checkpoint, data, inference, train
from wrn.bench.workload import Workload
from wrn.cli import main
from wrn.config import Config

TINY = ["--depth", "10", "--widen-factor", "1", "--device", "cpu"]
KINDS = {
    "train": [*TINY, "--batch-size", "4", "--rounds", "1", "--round-seconds", "0", "--resolutions", "16:0.5 32:0.5"],
    "inference": [*TINY, "--batch-sizes", "1 3", "--seconds", "0"],
    "data": ["--batch-size", "8", "--rounds", "1", "--batches", "1", "--device", "cpu", "--threads", "1"],
    "checkpoint": [*TINY, "--batch-size", "4", "--rounds", "1", "--steps", "1"],
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spend no time on the machine's limits."""
    monkeypatch.setattr(train, "measured_peaks", lambda precision: {"matmul": 1e12, "conv3x3": 2e12})
    monkeypatch.setattr(inference, "measured_peaks", lambda precision: {"matmul": 1e12, "conv3x3": 2e12})
    monkeypatch.setattr(train, "convolutions_alone", lambda *arguments: 1e-3)
    for module in (train, data):
        monkeypatch.setattr(module, "copy_bytes_per_second", lambda device: 1e10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The ShiftScaleRotate:UserWarning")
def test_it_prints_and_saves_a_record(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert main(["bench", kind, *KINDS[kind], "--output", str(tmp_path / "x.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert len(capsys.readouterr().out.splitlines()) >= 3
    record: dict[str, Any] = json.loads((tmp_path / "x.json").read_text())
    assert {"hardware", "versions", "commit", "command", "date"} <= set(record["environment"])


def test_figures_of_a_step_follow_from_each_other() -> None:
    config = Config(depth=10, widen_factor=1, batch_size=6, device="cpu", sam_rho=0.05, sam_batch=3)
    record = train.measure(config, rounds=2, round_s=0)
    (result,) = record["stages"]
    rate = result["images_per_s"]["median"]
    assert result["flop_per_image"] == 2 * 3 * 2 * 12_507_392  # two passes
    assert result["mfu"] == pytest.approx(rate * result["flop_per_image"] / 2e12)
    assert record["seconds_per_epoch"] == pytest.approx(50_000 / rate)
    assert list(result["phases"]) == ["data", "forward", "backward", "optimizer"]
    # Two units of three images, each passed twice.
    assert result["convolutions_alone_seconds"] == pytest.approx(4e-3)
    assert not any("Winograd" in line for line in train.lines(record))
    result["mfu"] = 1.2
    assert sum("Winograd" in line for line in train.lines(record)) == 1


def test_mfu_relates_to_the_measured_peak_and_the_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.bench.train.measured_peaks", lambda precision: {"product": 494.5e12})
    monkeypatch.setattr("wrn.bench.train.catalogued", lambda precision: "H100")
    record = train.measure(Config(depth=10, widen_factor=1, batch_size=4, device="cpu"), rounds=1, round_s=0)
    (stage,) = record["stages"]
    assert record["data_sheet"] == {"name": "H100", "peak_flops": 989e12}
    assert stage["mfu_of_data_sheet"] == pytest.approx(stage["mfu"] / 2)
    assert any(
        "of the measured peak, " in line and line.endswith("of the data sheet's") for line in train.lines(record)
    )


def test_a_workload_has_endless_full_batches() -> None:
    work = Workload(Config(depth=10, widen_factor=1, batch_size=3000, device="cpu"))
    batches = work.batches(16)
    assert [next(batches).size for _ in range(5)] == [3000] * 5


def test_all_candidates_of_the_batch_path_make_full_batches() -> None:
    split, _ = load_images(3000)
    batches = ours(augmentation(), split, 3000)
    assert [next(batches).size for _ in range(5)] == [3000] * 5


def test_unknown_benchmarks_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "everything"]) == 2
    assert "choose a benchmark: train, inference, data, checkpoint; see wrn" in capsys.readouterr().err
    assert main(["bench", "trian"]) == 2
    assert "checkpoint; did you mean train?; see wrn bench --help" in capsys.readouterr().err
    assert main(["bench", "train", "--dept", "10"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["bench", "inference", "--batch-sizes", "0"]) == 2
    assert main(["bench"]) == 2
    assert main(["bench", "train", "--help"]) == 0
    assert "--round-seconds" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_measured_if_the_record_cannot_be_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (train, inference, data, checkpoint):
        monkeypatch.delattr(module, "measure")
    (tmp_path / "file").touch()
    assert main(["bench", kind, *KINDS[kind], "--output", str(tmp_path / "file/x.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"wrn bench: --output: {tmp_path}/file/x.json cannot be written (")
    assert told.count("\n") == 1


@pytest.mark.parametrize("script", [bench_data, bench_scaling, bench_train])
def test_nor_are_peers_measured(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(script, "interleaved")
    monkeypatch.setattr("sys.argv", ["x", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code == 2
    assert f"argument --output: {tmp_path} cannot be written (Is a directory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--depth", "11"], "depth (flag): 11 is not allowed; must be 6n+4; the nearest are 10 and 16\n"),
        (
            ["--widen-factor", "100"],
            "widen_factor (flag): 100 is not allowed; input should be less than or equal to 64\n",
        ),
        (["--folder", "/nonexistent"], "folder: /nonexistent cannot be written (No such file or directory); give "),
    ],
)
def test_a_checkpoint_benchmark_that_cannot_run_is_reported(
    flags: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(checkpoint, "Workload")
    assert main(["bench", "checkpoint", *flags]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"wrn bench: {words}")
    assert told.count("\n") == 1


@pytest.mark.parametrize("flags", [["--depth", "11"], ["--widen-factor", "100"], ["--depth", "100000006"]])
def test_a_network_that_there_is_not_is_told_before_it_is_made(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(inference, "WideResNet")
    assert main(["bench", "inference", *flags]) == 2
    key = flags[0].removeprefix("--").replace("-", "_")
    assert capsys.readouterr().err.startswith(f"wrn bench: {key} (flag): {flags[1]} is not allowed; ")


def test_what_does_not_fit_in_memory_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "inference", *TINY, "--batch-sizes", "999999999"]) == 2  # 3 TB
    assert capsys.readouterr().err == "wrn bench: out of memory; give smaller batches or a smaller network\n"


def test_the_latency_that_one_call_in_a_hundred_exceeds() -> None:
    assert inference.percentile(list(range(100, 0, -1)), 0.99) == 99
    assert inference.percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert inference.percentile([1.0, 2.0], 0.5) == 1.0
    assert inference.percentile([5.0], 0.99) == 5.0


def test_the_lines_of_a_checkpoint_record() -> None:
    record = {
        **{"network": "WRN-28-10", "device": "cpu", "bytes": 440_000_000, "bytes_torch_save": 441_000_000},
        **{"seconds": {"write": {"median": 1.5}}, "step_seconds": {"median": 0.25}},
        "step_after_checkpoint": {"median": 1.25, "max": 2.0},
    }
    assert checkpoint.lines(record) == [
        "the state of WRN-28-10, 440 MB (torch.save: 441 MB), on cpu",
        "write         1.500 s",
        "a step takes 0.250 s, the one after a checkpoint 1.25x that (at most 2.00x)",
    ]
