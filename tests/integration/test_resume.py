"""An interrupted and resumed run gives exactly the bits of an uninterrupted one."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny import Recorder, ready, run_through, tiny_config, tiny_dataset, without_timing
from wrn.data.dataset import Split
from wrn.errors import CheckpointError, Interrupted
from wrn.training import checkpoint as checkpoint_module
from wrn.training.checkpoint import Checkpoint
from wrn.training.machine import choose_kernels
from wrn.training.selection import Selection


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset())


VARIANTS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "muon": {"optimizer": "muon"},
    "sam": {"sam_rho": 0.05, "sam_batch": 4},
    "ema": {"ema_decay": 0.9},
    "mix": {"mixup_alpha": 0.3, "cutmix_alpha": 1.0},
    "trivialaugment": {"augment": "trivialaugment", "cutout": 8, "random_erasing": 0.5},
    "accumulation": {"micro_batch": 6},
    "resolutions": {"resolutions": "16:0.5 24:0.5"},
    "fp32": {"amp": False},
    "validation": {"val_fraction": 0.2, "patience": 1, "gradient_clip": 1.0},
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_on_a_gpu_with_deterministic_kernels(name: str, tmp_path: Path) -> None:
    choose_kernels(deterministic=True)
    try:
        keys = {"device": "cuda", "deterministic": True, **VARIANTS[name]}
        whole, history = run_through(tmp_path / "whole", **keys)
        pieces, pieces_history = run_through(tmp_path / "pieces", stop_after=3, **keys)
    finally:
        choose_kernels(deterministic=False)
    assert pieces_history == history
    left, right = whole.final_model.state_dict(), pieces.final_model.state_dict()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


@pytest.mark.parametrize("name", VARIANTS)
def test_interrupted_in_the_middle_of_epochs_and_resumed(name: str, tmp_path: Path) -> None:
    whole, history = run_through(tmp_path / "whole", **VARIANTS[name])
    pieces, pieces_history = run_through(tmp_path / "pieces", stop_after=3, **VARIANTS[name])
    assert pieces_history == history
    for one, other in ((whole.model, pieces.model), (whole.final_model, pieces.final_model)):
        left, right = one.state_dict(), other.state_dict()
        assert left.keys() == right.keys()
        assert [key for key in left if not torch.equal(left[key], right[key])] == []


def test_an_interruption_is_reported_and_saved(tmp_path: Path) -> None:
    recorder = Recorder(stop_after=5)
    trainer, paths = ready(tiny_config(tmp_path), recorder)
    assert recorder.notes[0] == f"fresh start: no checkpoint in {paths.checkpoints}"
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step 5; saved .*step-00000005"):
        trainer.run(recorder.stop)
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path), recorder)
    assert recorder.notes[-1].startswith("resumed from step 5 (epoch 1), ")
    trainer.run(recorder.stop)
    assert recorder.steps == [5, 6, 7, 8, 9, 10, 11]


def test_the_seconds_of_an_epoch_are_those_of_all_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("wrn.training.speed.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(Recorder):
        def step(self, step: int, lr: float, images: int) -> None:
            super().step(step, lr, images)
            now[0] += 10.0

    for stop_after in (6, None):
        recorder = Slow(stop_after)
        trainer, _ = ready(tiny_config(tmp_path), recorder)
        with pytest.raises(Interrupted) if stop_after else nullcontext():
            trainer.run(recorder.stop)
        now[0] += 1000.0
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["seconds"] for row in rows] == [40.0, 40.0, 40.0]
    assert [row["images_per_s"] for row in rows] == [1.5, 1.5, 1.5]


def test_interrupted_between_the_steps_and_the_evaluation_of_an_epoch(tmp_path: Path) -> None:
    """Evaluating may take minutes on a CPU; it stops at once, and the epoch's figures come from its own steps only."""
    _, history = run_through(tmp_path / "whole")
    recorder = Recorder(stop_after=4)
    trainer, paths = ready(tiny_config(tmp_path / "cut"), recorder)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step 4; saved .*step-00000004"):
        trainer.run(recorder.stop)
    assert paths.history.read_text() == ""
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path / "cut"), recorder)
    trainer.run(recorder.stop)
    assert recorder.steps == list(range(4, 12))
    assert recorder.rows[0]["images_per_s"] > 0
    assert without_timing(recorder.rows) == history


def test_a_stop_while_the_finished_run_is_scored(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, val_fraction=0.2), recorder)
    trainer.run(recorder.stop)
    last = trainer.store.paths()[0]
    content = last.read_bytes()
    trainer.selection.load_best(trainer.final_model)
    recorder.stop.received = "SIGTERM"
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 12"):
        trainer.evaluate(tiny_dataset().test)
    assert last.read_bytes() == content


def test_a_checkpoint_that_was_due_during_an_evaluation_is_written_after_it(tmp_path: Path) -> None:
    """An evaluation of twice the interval must not delay the next checkpoint by another interval."""
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, checkpoint_minutes=1), recorder)
    trainer._saved = (0, 0)
    trainer._clock._saved_at -= 120
    before = trainer._clock._saved_at
    trainer._save_if_due()  # as between the batches of an evaluation: the same steps as in the last save
    assert trainer.store.paths() == []
    assert trainer._clock._saved_at == before
    trainer.run(recorder.stop)  # resets the clock, as every start does
    trainer._history.pop()
    trainer._clock._saved_at -= 120
    trainer._save_if_due()
    trainer.store.wait()
    assert time.monotonic() - trainer._clock._saved_at < 60


@pytest.mark.parametrize("step", [2, 4, 11])
def test_a_checkpoint_written_late_is_of_its_own_step(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the writer may start when the run is epochs ahead; a kill may leave only that checkpoint."""
    keys: dict[str, Any] = {"epochs": 6, "val_fraction": 0.2, "checkpoint_epochs": 0, "keep": 9}
    whole, history = run_through(tmp_path / "whole", **keys)
    recorder = Recorder()
    trainer, paths = ready(tiny_config(tmp_path / "cut", **keys), recorder)
    the_run_ended = threading.Event()
    write = checkpoint_module.write_checkpoint

    def late(path: Path, checkpoint: Checkpoint) -> None:
        if checkpoint.step == step:
            assert the_run_ended.wait(60)
            write(path, checkpoint)

    def due(number: int, lr: float, images: int) -> None:
        trainer._save_pending = number + 1 == step
        if number + 1 == 24:
            the_run_ended.set()

    monkeypatch.setattr(checkpoint_module, "write_checkpoint", late)
    monkeypatch.setattr(recorder, "step", due)
    trainer.run(recorder.stop)
    monkeypatch.setattr(checkpoint_module, "write_checkpoint", write)
    again = Recorder()
    resumed, _ = ready(tiny_config(tmp_path / "cut", **keys), again)
    resumed.run(again.stop)
    assert again.steps == list(range(step, 24))
    assert without_timing([json.loads(line) for line in paths.history.read_text().splitlines()]) == history
    assert resumed.selection.best_epoch == whole.selection.best_epoch
    left, right = whole.selection.best_weights, resumed.selection.best_weights
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run_through(tmp_path)
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path), recorder)
    trainer.run(recorder.stop)
    assert recorder.steps == []


def test_the_rate_of_every_step_is_the_schedule_s(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path, lr=0.4), recorder)
    seen: list[float] = []
    optimizer = trainer._train_step._optimizers.all[0]
    optimizer.register_step_pre_hook(lambda o, a, k: seen.extend(g["lr"] for g in o.param_groups))
    trainer.run(recorder.stop)
    literals = [0.1, 0.2, 0.3, 0.4, 0.38478, 0.34142, 0.27654, 0.2, 0.12346, 0.05858, 0.01522, 0.0]
    assert seen[::2] == pytest.approx(literals, abs=1e-5)
    assert seen[1::2] == seen[::2]
    assert recorder.rates == pytest.approx(literals, abs=1e-5)


def test_another_number_of_steps_per_epoch_is_never_accepted(tmp_path: Path) -> None:
    run_through(tmp_path)
    with pytest.raises(CheckpointError, match=r"a run with 4 steps per epoch, not 2; give the original --batch-size"):
        ready(tiny_config(tmp_path, batch_size=32, epochs=6, resume_anyway=True), Recorder())


def test_the_best_weights_are_those_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after a better epoch and resumed before it, elsewhere: the checkpoint contains its own best weights."""
    keys = {"val_fraction": 0.2, "patience": 0, "epochs": 3}
    recorder = Recorder(stop_after=5)
    trainer, _ = ready(tiny_config(tmp_path / "one", **keys), recorder)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    best = {name: tensor.clone() for name, tensor in trainer.selection.best_weights.items()}
    assert trainer.selection.best_epoch == 1

    monkeypatch.setattr(Selection, "judge", lambda *arguments: None)  # no epoch is better from here on
    recorder = Recorder()
    trainer, _ = ready(tiny_config(tmp_path / "two", resume=str(tmp_path / "one"), **keys), recorder)
    trainer.run(recorder.stop)
    trainer.selection.load_best(trainer.final_model)
    loaded = trainer.final_model.state_dict()
    assert [name for name in best if not torch.equal(best[name], loaded[name])] == []


def test_selection_never_sees_the_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other images and wrong labels there, everything that is chosen and trained stays the same."""
    keys: dict[str, Any] = {"val_fraction": 0.2, "patience": 1}
    trainer, history = run_through(tmp_path / "true", **keys)
    true = tiny_dataset()
    wrong = Split(255 - true.test.images, (true.test.labels + 1) % 5)
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: replace(true, test=wrong))
    misled, misled_history = run_through(tmp_path / "wrong", **keys)
    assert trainer.test_scores().plain.loss != misled.test_scores().plain.loss
    assert misled_history == history
    assert misled.selection.state_dict() == trainer.selection.state_dict()
    left, right = trainer.model.state_dict(), misled.model.state_dict()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def test_it_learns(tmp_path: Path) -> None:
    trainer, history = run_through(tmp_path, epochs=12, lr=0.05, batch_size=8, label_smoothing=0.0)
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert trainer.test_scores().plain.top1 > 0.9


def test_a_budget_chooses_epochs_that_can_be_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run equals one with the chosen number of epochs, and resuming does not choose again."""
    monkeypatch.setattr("wrn.training.budget.TIMED_SECONDS", 0.05)
    keys: dict[str, Any] = {"resolutions": "16:0.5 32:0.5", "checkpoint_epochs": 1}
    recorder = Recorder(stop_after=2)
    trainer, _ = ready(tiny_config(tmp_path / "budget", budget_minutes=0.03, **keys), recorder)
    epochs = trainer.config.epochs
    assert any(note.startswith("budget of 0.03 min: ") and f"--epochs {epochs} " in note for note in recorder.notes)
    with pytest.raises(Interrupted):
        trainer.run(recorder.stop)
    # A replacement machine has only the run's checkpoints.
    (tmp_path / "budget/config.yaml").unlink()
    monkeypatch.setattr("wrn.training.budget.fitting_epochs", lambda *arguments: 999)
    chosen, history = run_through(tmp_path / "budget", budget_minutes=0.03, **keys)
    same, same_history = run_through(
        tmp_path / "epochs", epochs=epochs, warmup_epochs=chosen.config.warmup_epochs, **keys
    )
    assert history == same_history
    left, right = chosen.model.state_dict(), same.model.state_dict()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


@pytest.mark.parametrize(("every", "evaluated"), [(0, [3]), (2, [2, 3])])
def test_an_evaluation_every_n_epochs_and_at_the_end(every: int, evaluated: list[int], tmp_path: Path) -> None:
    _, history = run_through(tmp_path, eval_epochs=every)
    assert [row["epoch"] for row in history if "test_top1" in row] == evaluated


def test_the_best_weights_are_the_averaged_ones(tmp_path: Path) -> None:
    trainer, _ = run_through(tmp_path, epochs=1, val_fraction=0.2, ema_decay=0.9)
    best = trainer.selection.best_weights
    assert all(torch.equal(tensor, best[name]) for name, tensor in trainer.final_model.state_dict().items())
    assert not torch.equal(trainer.model.fc.weight, best["fc.weight"])


def test_figures_of_training_are_those_of_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, images = Recorder(), []
    trainer, _ = ready(tiny_config(tmp_path), recorder)
    row_of, meters = trainer._training_row, trainer._train_step.meters
    monkeypatch.setattr(trainer, "_training_row", lambda epoch: images.append(meters.values[2].item()) or row_of(epoch))
    trainer.run(recorder.stop)
    assert images == [60, 60, 60]
