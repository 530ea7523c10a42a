"""Worker processes that die or are slow: nothing of the run is lost, and a signal does not wait for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tiny import Recorder, ready, run_through, tiny_config, tiny_dataset
from wrn.cli import main
from wrn.data.albumentations_loader import _Steps
from wrn.distributed.environment import Place
from wrn.errors import Interrupted, WorkerLost

pytest.importorskip("albumentations")

KEYS: dict[str, Any] = {"augment": "albumentations", "num_workers": 2, "checkpoint_epochs": 0}


@pytest.fixture(autouse=True)
def _tiny_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrn.training.parts.open_dataset", lambda *arguments, **keys: tiny_dataset())


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int, Callable[[], object]], None]:
    """Do something in the worker that first prepares the batch of this step."""

    def plan(number: int, action: Callable[[], object]) -> None:
        prepare, done = _Steps.__call__, tmp_path / "done"

        def spoilt(self: _Steps, step: int) -> tuple[np.ndarray, np.ndarray]:
            if step == number and multiprocessing.parent_process() is not None and not done.exists():
                done.touch()
                action()
            return prepare(self, step)

        monkeypatch.setattr(_Steps, "__call__", spoilt)

    return plan


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(60)


def test_a_killed_worker_costs_nothing(at_step: Callable[..., None], tmp_path: Path) -> None:
    whole, history = run_through(tmp_path / "whole", **KEYS)
    at_step(6, die)
    trainer, _ = ready(tiny_config(tmp_path / "cut", **KEYS), recorder := Recorder())
    with pytest.raises(WorkerLost, match=r"SIGKILL.* --num-workers.*checkpoint is .*step-0000000[456].* to resume"):
        trainer.run(recorder.stop)
    assert multiprocessing.active_children() == []
    again, resumed_history = run_through(tmp_path / "cut", **{**KEYS, "num_workers": 1})
    assert again._first_step == len(recorder.steps)
    assert resumed_history == history
    left, right = whole.model.state_dict(), again.model.state_dict()
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def test_it_is_one_sentence(
    at_step: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(0, die)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in KEYS.items()]
    small = ["--depth=10", "--widen-factor=1", "--epochs=1", "--warmup-epochs=0", "--batch-size=16", "--mixup-alpha=0"]
    run = ["--dataset=folder", "--device=cpu", "--progress=plain", f"--output-dir={tmp_path / 'run'}"]
    assert main(["train", *small, *run, *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("wrn train: a worker process that prepares batches ended with SIGKILL")
    assert told.endswith("There is no checkpoint yet\n")


def test_a_stop_does_not_wait_for_a_batch(at_step: Callable[..., None], tmp_path: Path) -> None:
    at_step(6, hang)
    trainer, _ = ready(tiny_config(tmp_path, **KEYS), recorder := Recorder())

    def ask() -> None:
        while len(recorder.steps) < 6:
            time.sleep(0.01)
        recorder.stop.received = "SIGTERM"

    threading.Thread(target=ask, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step 6; saved .*step-00000006"):
        trainer.run(recorder.stop)
    assert time.monotonic() - began < 30
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_several_processes_gives_a_batch_some_time(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = ready(tiny_config(tmp_path, **KEYS), recorder := Recorder())
    trainer._stop = recorder.stop
    monkeypatch.setattr(trainer, "_processes", SimpleNamespace(place=Place(rank, 2), is_first=rank == 0))
    now = [100.0]
    monkeypatch.setattr("wrn.training.trainer.time.monotonic", lambda: now[0])
    trainer._stop_while_waiting()
    recorder.stop.received = "SIGTERM"
    for now[0] in (100.0, 114.9):
        trainer._stop_while_waiting()
    now[0] = 115.1
    with pytest.raises(Interrupted) as caught:
        trainer._stop_while_waiting()
    assert str(caught.value).startswith("stopped by SIGTERM while a batch was awaited") == (rank == 0)
    assert trainer.store.paths() == [], "the others were in the middle of a step"
