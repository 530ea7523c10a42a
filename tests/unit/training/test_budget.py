from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import tiny_dataset
from wrn.config import Config
from wrn.data.augment.batch import Batch
from wrn.data.dataset import Split
from wrn.distributed.environment import Place
from wrn.model import WideResNet, pick_precision
from wrn.training.budget import (
    RESERVE,
    Costs,
    as_chosen_before,
    fitting_epochs,
    seconds_per_evaluation,
    seconds_per_step,
    with_epochs,
)
from wrn.training.checkpoint import Checkpoint
from wrn.training.parts import build_model, load_batches


def fitting(config: Config, step: float = 0.1, steps: int = 100, evaluation: float = 2.0, spent: float = 0.0) -> int:
    return fitting_epochs(config, Costs.of(config, step, steps, evaluation, spent))


def test_literals() -> None:
    # Per epoch 100 steps of 0.1 s and an evaluation of 2 s: 12 s. 9.5 of 10 minutes, less the final one: 47 epochs.
    assert fitting(Config(budget_minutes=10)) == 47
    assert fitting(Config(budget_minutes=10, eval_epochs=0)) == 56
    assert fitting(Config(budget_minutes=0.01)) == 1
    # The time spent on measuring is deducted.
    assert fitting(Config(budget_minutes=10), spent=60.0) == 42


@pytest.mark.parametrize("tta", [False, True])
def test_mirror_images_are_timed_too(tta: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [0.0]

    def timed(model: WideResNet, split: Split, *, tta: bool, **others: Any) -> None:
        assert len(split) == 5
        spent[0] += 2 if tta else 1

    monkeypatch.setattr("wrn.training.budget.EVALUATED", 5)  # of 20
    monkeypatch.setattr("wrn.training.budget.evaluate", timed)
    monkeypatch.setattr("wrn.training.budget.time.perf_counter", lambda: spent[0])
    dataset, model = tiny_dataset(), WideResNet(10, 1)
    found = seconds_per_evaluation(Config(tta=tta), model, dataset, pick_precision(torch.device("cpu"), amp=False))
    assert found == (2 if tta else 1) * 20 / 5


@given(st.floats(0.1, 600), st.floats(1e-3, 10), st.integers(1, 1000), st.floats(0, 100), st.floats(0, 100))
def test_what_is_chosen_fits_and_one_more_would_not(
    budget: float, step: float, steps: int, evaluation: float, spent: float
) -> None:
    config = Config(budget_minutes=budget)
    epochs = fitting(config, step, steps, evaluation, spent)
    per_epoch = step * steps + evaluation
    planned = budget * 60 * (1 - RESERVE)
    assert epochs == 1 or epochs * per_epoch + evaluation + spent <= planned * (1 + 1e-9)
    assert (epochs + 1) * per_epoch + evaluation + spent > planned * (1 - 1e-9)


def test_at_least_one_step_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolution whose share rounds to one step or none is timed by repeating that one step."""
    clock = itertools.count()
    monkeypatch.setattr("wrn.training.budget.time.perf_counter", lambda: float(next(clock)))
    run = {"epochs": 3, "warmup_epochs": 0, "batch_size": 16, "resolutions": "16:0.9 32:0.1"}
    config = Config(depth=10, widen_factor=1, device="cpu", **run)
    dataset, precision = tiny_dataset(), pick_precision(torch.device("cpu"), amp=False)
    one_batch = dataset.with_splits(dataset.train.take(torch.arange(16)), dataset.test)
    loader = load_batches(config, one_batch, torch.device("cpu"), Place())
    assert loader.steps_per_epoch == 1
    model = build_model(config, one_batch, torch.device("cpu"))
    # Each call of the clock advances it by one: two steps until TIMED_SECONDS are over, and a third call after them.
    assert seconds_per_step(config, model, loader, precision) == pytest.approx(1.5)


def test_warm_up_and_milestones_keep_their_share() -> None:
    config = Config(epochs=200, warmup_epochs=10, schedule="step", milestones="60 120 160")
    half = with_epochs(config, 100)
    assert (half.epochs, half.warmup_epochs, half.milestones) == (100, 5, "30 60 80")


def test_never_more_than_asked_for() -> None:
    assert fitting(Config(budget_minutes=10, budget_epochs=30)) == 30
    assert fitting(Config(budget_minutes=10, budget_epochs=50)) == 47
    assert fitting(Config(budget_minutes=0.01, budget_epochs=50)) == 1


def test_an_earlier_choice_stays() -> None:
    before = Config(epochs=7, warmup_epochs=0.5, milestones="3 5")
    checkpoint = Checkpoint({}, {"config": before.model_dump(mode="json")})
    chosen, line = as_chosen_before(Config(epochs=100, lr=0.3, budget_minutes=2), checkpoint)
    assert (chosen.epochs, chosen.warmup_epochs, chosen.milestones, chosen.lr) == (7, 0.5, "3 5", 0.3)
    assert line == "budget of 2 min: 7 epochs, as chosen when the run began"


@pytest.mark.parametrize("budget", [-1, float("inf")])
def test_no_such_budget(budget: float) -> None:
    with pytest.raises(ValueError, match="budget_minutes"):
        Config(budget_minutes=budget)


def test_each_resolution_is_timed_and_counts_by_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class TimedStep:
        """A step on images of 16 px takes a second, one on 32 px two."""

        def __init__(self, *arguments: object) -> None:
            self.meters = SimpleNamespace(read=lambda: None)

        def __call__(self, step: int, batch: Batch) -> None:
            now[0] += batch.images.shape[-1] / 16

    monkeypatch.setattr("wrn.training.budget.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("wrn.training.budget.TrainStep", TimedStep)
    config = Config(epochs=3, warmup_epochs=0, batch_size=16, depth=10, widen_factor=1, resolutions="16:0.75 32:0.25")
    dataset, cpu = tiny_dataset(), torch.device("cpu")
    loader, model = load_batches(config, dataset, cpu, Place()), build_model(config, dataset, cpu)
    found = seconds_per_step(config, model, loader, pick_precision(cpu, amp=False))
    assert found == pytest.approx(0.75 * 1 + 0.25 * 2)
