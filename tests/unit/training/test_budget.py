from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config import Config
from wrn.training.budget import earlier_choice, fitting_epochs, with_epochs


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


def test_an_earlier_choice_stays(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    assert earlier_choice(Config(), file) is None
    file.write_text("epochs: 7\nwarmup_epochs: 0.5\nmilestones: ''\n")
    before = earlier_choice(Config(epochs=100), file)
    assert before is not None
    assert (before.epochs, before.warmup_epochs) == (7, 0.5)
    file.write_text("[]")
    assert earlier_choice(Config(), file) is None
    file.write_text("epochs: {")
    assert earlier_choice(Config(), file) is None


@pytest.mark.parametrize("budget", [-1, float("inf")])
def test_no_such_budget(budget: float) -> None:
    with pytest.raises(ValueError, match="budget_minutes"):
        Config(budget_minutes=budget)
