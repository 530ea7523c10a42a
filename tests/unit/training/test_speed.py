from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny import Recorder, ready, tiny_config, tiny_dataset
from wrn.config import Config
from wrn.config.architecture import Architecture, multiply_adds
from wrn.data.augment.batch import Batch
from wrn.training.schedule import make_schedule
from wrn.training.speed import Speedometer, long_run


def test_compilation_is_reported_separately_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("wrn.training.speed.time.perf_counter", lambda: now[0])
    architecture = Architecture(10, 1, 0.0, 5)
    batch = Batch(torch.zeros(60, 3, 16, 16), torch.zeros(60, dtype=torch.int64))
    peak = 6 * 60 * multiply_adds(architecture, 16) / 12.0  # reached when the batch takes 12 s
    speed = Speedometer(Config(), architecture, torch.device("cpu"), peak)

    speed.count(batch)
    now[0] += 10.0
    first = speed.row(compile_seconds=4.0)
    assert (first["seconds"], first["compile_seconds"]) == (10.0, 4.0)
    assert first["images_per_s"] == pytest.approx(10.0)
    assert first["mfu"] == pytest.approx(2.0)

    speed.begin()
    speed.count(batch)
    now[0] += 12.0
    second = speed.row(compile_seconds=4.0)
    assert (second["seconds"], second["compile_seconds"]) == (12.0, 0.0)
    assert second["images_per_s"] == pytest.approx(5.0)
    assert second["mfu"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "3.7 days, 53 min per epoch"),  # 100 x 50,176 images of 6 x 5.24e9 FLOP each
        ({"sam_rho": 0.1}, "7.3 days, 1 h 45 min per epoch"),
        ({"resolutions": "16:0.5 32:0.5"}, "2.3 days, 33 min per epoch"),
        ({"epochs": 20}, None),
    ],
)
def test_a_run_of_days_is_told_with_what_ends_sooner(keys: dict[str, object], expected: str | None) -> None:
    config = Config.model_validate(keys)
    line = long_run(config, Architecture(28, 10, 0.0, 100), make_schedule(config, 196), 0.5e12)
    sooner = "a GPU, --recipe quickstart (a small network), or --budget-minutes N (as many epochs as fit)"
    assert line == (expected and f"even at that peak the run takes about {expected}; faster: {sooner}")


def test_it_is_told_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *names, **keys: tiny_dataset())
    monkeypatch.setattr("wrn.training.speed.LONG_S", 0.0)
    recorder = Recorder()
    ready(tiny_config(tmp_path), recorder)
    assert recorder.notes[-1].startswith("even at that peak the run takes about ")
    assert recorder.notes[-2].startswith("WRN-10-1")


def test_sam_costs_two_passes_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("wrn.training.speed.time.perf_counter", lambda: now[0])
    batch = Batch(torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    figures = []
    for rho in (0.0, 0.05):
        speed = Speedometer(Config(sam_rho=rho), Architecture(10, 1, 0.0, 5), torch.device("cpu"), 1e9)
        speed.count(batch)
        now[0] += 1.0
        figures.append(speed.row(0.0)["mfu"])
    assert figures[1] == pytest.approx(2 * figures[0])


def test_an_interrupted_epoch_is_counted_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("wrn.training.speed.time.perf_counter", lambda: now[0])
    batch = Batch(torch.zeros(60, 3, 32, 32), torch.zeros(60, dtype=torch.int64))

    def started() -> Speedometer:
        return Speedometer(Config(), Architecture(10, 1, 0.0, 5), torch.device("cpu"), 1e9)

    first, second = started(), started()
    assert first.state_dict(0.0) == {}
    first.count(batch)
    now[0] += 10.0
    saved = first.state_dict(compile_seconds=4.0)
    now[0] += 1000.0  # nobody trained
    second.load_state_dict(saved)
    second.begin()
    second.count(batch)
    now[0] += 8.0
    row = second.row(compile_seconds=2.0)
    assert (row["seconds"], row["compile_seconds"]) == (18.0, 6.0)
    assert row["images_per_s"] == pytest.approx(10.0)
    assert second.state_dict(2.0) == {}, "what follows an epoch's last step is not the next one's"
    second.begin()
    second.count(batch)
    now[0] += 6.0
    assert second.row(compile_seconds=2.0)["seconds"] == 6.0
