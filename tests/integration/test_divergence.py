"""A run whose numbers are not finite any more ends with one sentence, and nothing of it is saved or selected."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import Recorder, ready, run_through, tiny_config, tiny_dataset
from wrn.cli import main
from wrn.data.augment.batch import Batch
from wrn.errors import TrainingError
from wrn.model import WideResNet
from wrn.training import checkpoint as checkpoint_module
from wrn.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from wrn.training.step import TrainStep, group_of
from wrn.training.trainer import Trainer


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset())


def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer, paths = ready(tiny_config(tmp_path, lr=900.0, momentum=0.99, amp=False, checkpoint_epochs=1), recorder)
    with torch.no_grad():
        trainer.model.fc.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite at step 0 with learning rate 225; there is no checkpoint"):
        trainer.run(recorder.stop)
    assert not list(paths.checkpoints.glob("*"))


@pytest.mark.parametrize("bad", [3, 11])
def test_a_gradient_that_is_not_finite_stops_the_run_before_its_weights_are_saved(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss is still finite, and after the run's last step no later loss would reveal it."""
    trainer, _ = ready(tiny_config(tmp_path, amp=False, checkpoint_epochs=1), recorder := Recorder())
    gradients = TrainStep._gradients

    def spoilt(self: TrainStep, step: int, batch: Batch) -> None:
        gradients(self, step, batch)
        if step == bad:
            self._parameters[0].grad[0, 0, 0, 0] = torch.inf  # type: ignore[index]

    monkeypatch.setattr(TrainStep, "_gradients", spoilt)
    with pytest.raises(TrainingError, match=f"loss or its gradient was not finite at step {bad}"):
        trainer.run(recorder.stop)
    for path in trainer.store.paths():
        assert all(
            bool(tensor.isfinite().all()) for tensor in group_of(read_checkpoint(path).tensors, "model/").values()
        )


def test_a_loss_that_is_not_finite_is_found_within_an_epoch_by_the_check_after_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wrn.training.trainer.STEPS_PER_CHECK", 3)

    class Spoiler(Recorder):
        def step(self, step: int, lr: float, images: int) -> None:
            super().step(step, lr, images)
            if step == 4:
                with torch.no_grad():
                    trainer.model.fc.bias.fill_(float("nan"))

    recorder = Spoiler()
    trainer, _ = ready(tiny_config(tmp_path, batch_size=4, amp=False), recorder)  # epochs of 15 steps
    with pytest.raises(TrainingError, match="not finite at step 5"):
        trainer.run(recorder.stop)
    assert recorder.steps[-1] == 8  # requested after step 5, checked after step 8


class Spoiler(Recorder):
    """Makes all outputs of a network NaN after a step."""

    def __init__(self, behind: int, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.model: WideResNet | None = None
        self._behind = behind

    def step(self, step: int, lr: float, images: int) -> None:
        super().step(step, lr, images)
        if step == self._behind and self.model is not None:
            with torch.no_grad():
                self.model.fc.bias.fill_(float("nan"))


def test_a_stop_saves_nothing_where_the_loss_is_not_finite(tmp_path: Path) -> None:
    recorder = Spoiler(4, stop_after=6)
    trainer, _ = ready(tiny_config(tmp_path, amp=False, checkpoint_epochs=0), recorder)
    recorder.model = trainer.model
    with pytest.raises(TrainingError, match="not finite at step 5"):
        trainer.run(recorder.stop)
    assert trainer.store.paths() == []


def test_the_last_good_checkpoint_is_named_though_it_is_still_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = ready(tiny_config(tmp_path, amp=False, epochs=4, checkpoint_epochs=1, keep=9), recorder := Spoiler(13))
    recorder.model = trainer.model
    write, wait, waited_for = checkpoint_module.write_checkpoint, trainer.store.wait, threading.Event()
    save = trainer.store.save  # earlier ones must not delay the one of step 12

    def slow(path: Path, checkpoint: Checkpoint) -> None:
        assert checkpoint.step < 12 or waited_for.wait(60)
        write(path, checkpoint)

    def waiting() -> None:
        if trainer._step == 16:
            waited_for.set()
        wait()

    monkeypatch.setattr(checkpoint_module, "write_checkpoint", slow)
    monkeypatch.setattr(trainer.store, "wait", waiting)
    monkeypatch.setattr(trainer.store, "save", lambda c, *, wait: save(c, wait=wait or c.step < 12))
    try:
        with pytest.raises(TrainingError, match=r"at step 14 .*; the last checkpoint before that is .*step-00000012"):
            trainer.run(recorder.stop)
    finally:
        waited_for.set()


def spoil_evaluation(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """From the end of this epoch on, BN's statistics give NaN: training does not use them, so its loss stays finite."""
    evaluate = Trainer.evaluate

    def spoilt(self: Trainer, *arguments: Any) -> Any:
        if self._step >= epoch * self._loader.steps_per_epoch:
            dict(self.final_model.named_buffers())["bn.running_var"].fill_(float("nan"))
        return evaluate(self, *arguments)

    monkeypatch.setattr(Trainer, "evaluate", spoilt)


@pytest.mark.parametrize("keys", [{}, {"val_fraction": 0.2}, {"val_fraction": 0.2, "tta": True, "ema_decay": 0.5}])
def test_an_evaluation_that_is_not_finite_stops_the_run(
    keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_evaluation(monkeypatch, epoch=2)
    trainer, paths = ready(tiny_config(tmp_path, checkpoint_epochs=1, keep=9, **keys), recorder := Recorder())
    with pytest.raises(TrainingError, match=r"outputs were not finite; the last checkpoint .*step-00000004"):
        trainer.run(recorder.stop)
    assert [json.loads(line)["epoch"] for line in paths.history.read_text().splitlines()] == [1]
    assert [row["epoch"] for row in recorder.rows] == [1]
    assert trainer.selection.best_epoch == (1 if "val_fraction" in keys else 0)
    assert all(bool(tensor.isfinite().all()) for tensor in trainer.selection.best_weights.values())


def test_a_run_that_diverged_in_its_last_epoch_leaves_no_model_and_no_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_evaluation(monkeypatch, epoch=1)
    small = ["--depth", "10", "--widen-factor", "1", "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "16"]
    run = ["--dataset", "folder", "--device", "cpu", "--progress", "plain", "--output-dir", str(tmp_path / "run")]
    assert main(["train", *small, *run, "--mixup-alpha", "0"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "nan" not in told.out
    left = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert left == {"config.yaml", "history.jsonl"}
    assert (tmp_path / "run/history.jsonl").read_text() == ""


def test_a_checkpoint_of_an_older_version_may_hold_nan(tmp_path: Path) -> None:
    """Its history could; what is written from now on does not."""
    run_through(tmp_path)
    newest = max((tmp_path / "checkpoints").glob("*.safetensors"))
    saved = read_checkpoint(newest)
    saved.state["history"][0]["test_loss"] = float("inf")
    saved.state["history"][1]["test_ece"] = float("nan")
    with pytest.MonkeyPatch.context() as older:
        older.setattr("wrn.training.checkpoint.to_json", json.dumps)
        write_checkpoint(newest, saved)
    _, history = run_through(tmp_path, epochs=4, resume_anyway=True)
    assert [history[0]["test_loss"], history[1]["test_ece"]] == [None, None]
    assert "NaN" not in (tmp_path / "history.jsonl").read_text()
    assert len(history) == 4
