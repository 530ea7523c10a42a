from __future__ import annotations

import pytest
import torch
from torch import nn

from wrn.training.selection import Selection


def filled(value: float) -> nn.Module:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_keeps_the_weights_of_the_best_epoch() -> None:
    selection = Selection(0, 0)
    for epoch, top1 in enumerate((0.1, 0.5, 0.4), start=1):
        trained = filled(epoch)
        selection.judge(top1, epoch, trained)
        with torch.no_grad():
            trained.weight.fill_(-1)  # type: ignore[operator]  # training goes on
    model = filled(9)
    selection.load_best(model)
    assert model.weight.unique().tolist() == [2.0]  # type: ignore[operator]
    assert (selection.best_epoch, selection.stop_reason) == (2, "")


def test_patience_counts_epochs_without_a_better_one() -> None:
    selection = Selection(2, 0)
    for epoch, top1 in enumerate((0.5, 0.5, 0.4), start=1):
        assert not selection.stop_reason
        selection.judge(top1, epoch, filled(epoch))
    assert "validation top-1 did not improve for 2 epochs (best 50.00% in epoch 1)" in selection.stop_reason


def test_the_target_stops() -> None:
    selection = Selection(0, 0.6)
    selection.judge(0.59, 1, filled(1))
    assert not selection.stop_reason
    selection.judge(0.6, 2, filled(2))
    assert "reached 60.00%" in selection.stop_reason


def test_its_state_is_restored() -> None:
    first = Selection(3, 0)
    first.judge(0.7, 4, filled(4))
    second = Selection(3, 0)
    second.load_state_dict(first.state_dict(), first.best_weights)
    second.judge(0.6, 5, filled(5))
    model = filled(0)
    second.load_best(model)
    assert model.weight.unique().tolist() == [4.0]  # type: ignore[operator]


def test_current_patience_and_target_decide_whether_a_run_is_over() -> None:
    first = Selection(2, 0)
    for epoch, top1 in enumerate((0.5, 0.4, 0.4), start=1):
        first.judge(top1, epoch, filled(epoch))
    assert first.stop_reason
    for patience, target, over in ((2, 0, True), (5, 0, False), (0, 0, False), (5, 0.5, True)):
        again = Selection(patience, target)
        again.load_state_dict(first.state_dict(), first.best_weights)
        assert bool(again.stop_reason) is over


def test_a_best_epoch_without_its_weights_is_refused() -> None:
    selection = Selection(1, 0)
    selection.judge(0.5, 1, filled(1))
    with pytest.raises(KeyError, match="weights of the best epoch"):
        Selection(1, 0).load_state_dict(selection.state_dict(), {})


def test_only_a_judged_epoch_may_be_the_last() -> None:
    """With an evaluation every third epoch, an interruption in between changes nothing."""
    model = torch.nn.Linear(1, 1)
    selection = Selection(4, 0)
    selection.judge(0.5, 3, model)
    selection.judge(0.4, 6, model)
    again = Selection(4, 0)
    again.load_state_dict(selection.state_dict(), selection.best_weights)
    assert again.stop_reason == ""
    again.judge(0.4, 9, model)
    assert again.stop_reason
