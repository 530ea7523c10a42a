"""What may differ when a run resumes and what is refused; resuming elsewhere, or after damage."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import Recorder, ready, run_through, tiny_config, tiny_dataset, without_timing
from wrn.data.dataset import Dataset
from wrn.distributed.environment import Place
from wrn.distributed.processes import Processes
from wrn.errors import CheckpointError, Interrupted
from wrn.model import Precision
from wrn.training import checkpoint as checkpoint_module
from wrn.training.checkpoint import Checkpoint, CheckpointStore, step_of
from wrn.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset())


def test_another_configuration_is_listed_and_refused(tmp_path: Path) -> None:
    run_through(tmp_path)
    recorder = Recorder()
    with pytest.raises(CheckpointError, match=r"weight_decay was 0.0005 and is 0.1"):
        ready(tiny_config(tmp_path, weight_decay=0.1), recorder)
    assert recorder.notes == [], "it only reports a resume that happens"
    with pytest.raises(CheckpointError, match=r"different network \(widen_factor was 1 and is 2"):
        ready(tiny_config(tmp_path, widen_factor=2, resume_anyway=True), Recorder())
    with pytest.raises(CheckpointError, match=r"different network \(activation was 'relu' and is 'silu'"):
        ready(tiny_config(tmp_path, activation="silu", resume_anyway=True), Recorder())
    with pytest.raises(CheckpointError, match=r"different network \(downsampling was 'stride' and is 'pool'"):
        ready(tiny_config(tmp_path, downsampling="pool", resume_anyway=True), Recorder())


def test_a_run_resumes_in_another_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a replacement machine: fp16 scales the loss, the run before did not."""
    recorder = Recorder(stop_after=5)
    trainer, _ = ready(tiny_config(tmp_path, amp=False), recorder)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    # No steps and no measurements: a CPU takes minutes for fp16.
    fp16 = Precision(torch.device("cpu"), torch.float16, "as on a T4")
    monkeypatch.setattr("wrn.training.run.pick_precision", lambda *arguments, **named: fp16)
    monkeypatch.setattr("wrn.training.run.peak_flops", lambda precision: (1e12, "for this test"))
    again = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, amp=False), again)
    assert any(note.startswith("resumed from step 5") for note in again.notes)
    assert trainer._train_step.scaler.get_scale() > 1


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    _, history = run_through(tmp_path / "whole", checkpoint_epochs=1)
    recorder = Recorder(stop_after=10)
    trainer, paths = ready(tiny_config(tmp_path / "cut", checkpoint_epochs=1), recorder)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    newest, older = trainer.store.paths()
    newest.write_bytes(newest.read_bytes()[:1000])
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path / "cut", checkpoint_epochs=1), recorder)
    assert any(f"skipped: {newest}" in note for note in recorder.notes)
    assert recorder.notes[-1].endswith(str(older))
    trainer.run(recorder.stop)
    rows = [json.loads(line) for line in paths.history.read_text().splitlines()]
    assert without_timing(rows) == history


def test_starting_over_in_the_folder_of_a_longer_run(tmp_path: Path) -> None:
    run_through(tmp_path)
    recorder = Recorder(stop_after=3)
    trainer, _ = ready(tiny_config(tmp_path, lr=0.4, resume="never"), recorder)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    assert any("set aside" in note for note in recorder.notes)
    again = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, lr=0.4), again)
    trainer.run(again.stop)
    assert again.steps == list(range(3, 12)), "it resumes the new run, not the old one"


def test_resuming_into_the_folder_of_a_shorter_run(tmp_path: Path) -> None:
    """Checkpoints there, even of fewer steps, are never a fallback: they belong to another run."""
    for name, steps in (("from", 6), ("to", 3)):
        recorder = Recorder(stop_after=steps)
        trainer, paths = ready(tiny_config(tmp_path / name), recorder)
        with pytest.raises(Interrupted, match=r"Run the same command again to resume$"):
            trainer.run(recorder.stop)
    there = str(tmp_path / "from")
    recorder = Recorder(stop_after=2)
    trainer, paths = ready(tiny_config(tmp_path / "to", resume=there), recorder)
    with pytest.raises(Interrupted, match=r"Run the same command again to resume, with --resume auto$"):
        trainer.run(recorder.stop)
    assert recorder.steps == [6, 7]
    assert [path.name for path in trainer.store.paths()] == ["step-00000008.safetensors"]
    assert any("set aside" in note and "step-00000003" in note for note in recorder.notes)
    again = Recorder()
    trainer, _ = ready(tiny_config(tmp_path / "to", resume=str(paths.checkpoints)), again)
    trainer.run(again.stop)
    assert again.steps == [8, 9, 10, 11]
    assert not any("set aside" in note for note in again.notes), "named or not, it resumes from its own"


def test_a_finished_run_resumed_elsewhere_is_saved_there(tmp_path: Path) -> None:
    run_through(tmp_path / "from")
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path / "to", resume=str(tmp_path / "from")), recorder)
    trainer.run(recorder.stop)
    assert recorder.steps == []
    assert trainer.store.newest() is not None


def test_a_failing_last_write_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if that state was saved in the background before."""

    def full(path: Path, checkpoint: Checkpoint) -> None:
        raise CheckpointError("no space")

    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, checkpoint_epochs=3), recorder)
    monkeypatch.setattr(checkpoint_module, "write_checkpoint", full)
    with pytest.raises(CheckpointError, match="no space"):
        trainer.run(recorder.stop)


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_through(tmp_path)
    given = "wrn.training.parts.open_dataset"
    for data, words in (
        (replace(tiny_dataset(), name="synthetic"), r"other data \(folder, this is synthetic\)"),
        (tiny_dataset(62), r"60 \+ 20 images, here are 62 \+ 20"),
        (replace(tiny_dataset(), classes=("v", "w", "x", "y", "z")), "the same number of images, but different ones"),
    ):
        monkeypatch.setattr(given, lambda *arguments, data=data, **keys: data)
        with pytest.raises(CheckpointError, match=words):
            ready(tiny_config(tmp_path), Recorder())
        ready(tiny_config(tmp_path, resume_anyway=True), Recorder())


def test_auto_stays_with_the_original_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline it uses the synthetic set; back online it must not continue with another data set."""
    asked = []

    def opened(name: str, **keys: object) -> Dataset:
        asked.append(name)
        return replace(tiny_dataset(), name="synthetic")

    monkeypatch.setattr("wrn.training.parts.open_dataset", opened)
    for stop_after in (2, None):
        recorder = Recorder(stop_after)
        trainer, _ = ready(tiny_config(tmp_path, dataset="auto"), recorder)
        with pytest.raises(Interrupted) if stop_after else nullcontext():
            trainer.run(recorder.stop)
    assert asked == ["auto", "synthetic"]


def test_more_epochs_than_before_report_the_new_rate(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, epochs=2), recorder)
    trainer.run(recorder.stop)
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, epochs=8), recorder)
    assert any(
        re.search(r"^epochs raised from 2 to 8: the learning rate jumps from 0 to 0\.\d+$", n) for n in recorder.notes
    )


def saved_steps(trainer: Trainer) -> list[int]:
    return sorted(step_of(path) for path in trainer.store.paths())


def test_a_stop_saves_even_if_the_previous_write_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoint_module.write_checkpoint

    def full_at_first(path: Path, checkpoint: Checkpoint) -> None:
        if checkpoint.step == 4:
            raise CheckpointError("no space")
        write(path, checkpoint)

    recorder = Recorder(stop_after=6)
    trainer, _ = ready(tiny_config(tmp_path, checkpoint_epochs=1), recorder)
    monkeypatch.setattr(checkpoint_module, "write_checkpoint", full_at_first)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    assert saved_steps(trainer) == [6]


@pytest.mark.parametrize(
    ("busy", "saved"), [(range(0), [8, 16, 20]), (range(8, 13), [13, 16, 20])], ids=["idle", "for more than an epoch"]
)
def test_a_checkpoint_is_postponed_but_not_forgotten_while_another_is_being_written(
    busy: range, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, epochs=5, checkpoint_epochs=2, keep=9), recorder)
    monkeypatch.setattr(CheckpointStore, "busy", property(lambda store: trainer._step in busy))
    trainer.run(recorder.stop)
    assert saved_steps(trainer) == saved


def test_an_automatic_run_directory_is_reported_when_the_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(stop_after=2)
    trainer, paths = ready(tiny_config(tmp_path).model_copy(update={"output_dir": None}), recorder)
    with pytest.raises(Interrupted, match=rf"to resume, with --output-dir {re.escape(str(paths.run))}$"):
        trainer.run(recorder.stop)


def test_the_first_of_several_processes_reports_all_images_and_allows_for_delays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two processes; the other never joins."""
    processes = Processes()
    told: list[int] = []
    delays: list[int] = []
    taken: list[Any] = []
    trainer: Trainer
    processes.place = Place(rank=0, world_size=2)
    monkeypatch.setattr(processes, "expect_delay", lambda: delays.append(trainer._step))
    monkeypatch.setattr(processes, "broadcast_from_first", taken.append)
    recorder = Recorder()
    monkeypatch.setattr(recorder, "step", lambda step, lr, images: told.append(images))
    config = tiny_config(tmp_path, resolutions="16:0.5 24:0.5", ema_decay=0.9, eval_epochs=0, tta=True)
    trainer, _ = ready(config, recorder, processes)
    trainer.run(recorder.stop)
    assert told == [16, 16, 16, 12] * 3
    assert delays == [0, 6]  # when the images grow, kernels are chosen again
    (statistics,) = taken  # of BN; each process has its own, and the first's are evaluated
    assert [id(tensor) for tensor in statistics] == [id(tensor) for tensor in trainer.final_model.buffers()]
    assert trainer.test_scores().plain.superclass is not None
    assert trainer.test_scores().mirrored is not None
