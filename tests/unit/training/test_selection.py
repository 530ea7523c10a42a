from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from wrn.errors import CheckpointError
from wrn.training.selection import Selection


def filled(value: float) -> nn.Module:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_keeps_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    selection = Selection(0, 0, tmp_path)
    for epoch, top1 in enumerate((0.1, 0.5, 0.4), start=1):
        selection.judge(top1, epoch, filled(epoch))
    model = filled(9)
    assert selection.load_best(model)
    assert model.weight.unique().tolist() == [2.0]
    assert (selection.best_epoch, selection.stop_reason) == (2, "")


def test_patience_counts_epochs_without_a_better_one(tmp_path: Path) -> None:
    selection = Selection(2, 0, tmp_path)
    for epoch, top1 in enumerate((0.5, 0.5, 0.4), start=1):
        assert not selection.stop_reason
        selection.judge(top1, epoch, filled(epoch))
    assert "no better validation top-1 for 2 epochs (best 50.00% in epoch 1)" in selection.stop_reason


def test_the_target_stops(tmp_path: Path) -> None:
    selection = Selection(0, 0.6, tmp_path)
    selection.judge(0.59, 1, filled(1))
    assert not selection.stop_reason
    selection.judge(0.6, 2, filled(2))
    assert "reached 60.00%" in selection.stop_reason


def test_its_state_goes_on(tmp_path: Path) -> None:
    first = Selection(3, 0, tmp_path)
    first.judge(0.7, 4, filled(4))
    second = Selection(3, 0, tmp_path)
    second.load_state_dict(first.state_dict())
    second.judge(0.6, 5, filled(5))
    model = filled(0)
    assert second.load_best(model)
    assert model.weight.unique().tolist() == [4.0]


def test_nothing_judged_loads_nothing(tmp_path: Path) -> None:
    assert not Selection(1, 0, tmp_path).load_best(filled(1))


def test_damaged_best_weights_are_an_error(tmp_path: Path) -> None:
    selection = Selection(1, 0, tmp_path)
    selection.judge(0.5, 1, filled(1))
    path = tmp_path / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="damaged"):
        selection.load_best(filled(1))
