from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config import Config
from wrn.training.budget import as_chosen_before, fitting_epochs, with_epochs
from wrn.training.checkpoint import Checkpoint


def test_literals() -> None:
    # 100 steps of 0.1 s and an evaluation of 2 s an epoch: 12 s; 10 minutes less the last evaluation: 49 of them.
    assert fitting_epochs(Config(budget_minutes=10), 0.1, 100, 2.0) == 49
    assert fitting_epochs(Config(budget_minutes=10, eval_epochs=0), 0.1, 100, 2.0) == 59
    assert fitting_epochs(Config(budget_minutes=0.01), 0.1, 100, 2.0) == 1


@given(st.floats(0.1, 600), st.floats(1e-3, 10), st.integers(1, 1000), st.floats(0, 100))
def test_what_is_chosen_fits_and_one_more_would_not(budget: float, step: float, steps: int, evaluation: float) -> None:
    config = Config(budget_minutes=budget)
    epochs = fitting_epochs(config, step, steps, evaluation)
    per_epoch = step * steps + evaluation
    assert epochs == 1 or epochs * per_epoch + evaluation <= budget * 60 * (1 + 1e-9)
    assert (epochs + 1) * per_epoch + evaluation > budget * 60 * (1 - 1e-9)


def test_warm_up_and_milestones_keep_their_share() -> None:
    config = Config(epochs=200, warmup_epochs=10, schedule="step", milestones="60 120 160")
    half = with_epochs(config, 100)
    assert (half.epochs, half.warmup_epochs, half.milestones) == (100, 5, "30 60 80")


def test_never_more_than_asked_for() -> None:
    assert fitting_epochs(Config(budget_minutes=10, budget_epochs=30), 0.1, 100, 2.0) == 30
    assert fitting_epochs(Config(budget_minutes=10, budget_epochs=50), 0.1, 100, 2.0) == 49
    assert fitting_epochs(Config(budget_minutes=0.01, budget_epochs=50), 0.1, 100, 2.0) == 1


def test_an_earlier_choice_stays() -> None:
    before = Config(epochs=7, warmup_epochs=0.5)
    checkpoint = Checkpoint({}, {"config": before.model_dump(mode="json")})
    chosen, line = as_chosen_before(Config(epochs=100, lr=0.3, budget_minutes=2), checkpoint)
    assert (chosen.epochs, chosen.warmup_epochs, chosen.lr) == (7, 0.5, 0.3)
    assert line == "budget of 2 min: 7 epochs, as chosen when the run began"


@pytest.mark.parametrize("budget", [-1, float("inf")])
def test_no_such_budget(budget: float) -> None:
    with pytest.raises(ValueError, match="budget_minutes"):
        Config(budget_minutes=budget)
