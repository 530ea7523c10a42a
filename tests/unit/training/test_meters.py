from __future__ import annotations

import pytest
import torch

from wrn.distributed.environment import Place
from wrn.distributed.processes import Processes
from wrn.training.meters import Meters


def test_sums_over_passes_and_steps() -> None:
    meters = Meters(torch.device("cpu"), Processes())
    meters.add_pass(0, torch.tensor(6.0), torch.tensor(1.5), 3)
    meters.add_pass(0, torch.tensor(2.0), torch.tensor(0.5), 1)
    meters.add_step(0, torch.tensor(2.0), may_overflow=False)
    meters.add_step(1, torch.tensor(4.0), may_overflow=False)
    totals = meters.read()
    assert (totals.loss, totals.top1, totals.grad_norm, totals.largest_grad_norm) == (2.0, 0.5, 3.0, 4.0)
    assert totals.first_bad_step is None


def test_the_first_step_that_was_not_finite_is_named() -> None:
    meters = Meters(torch.device("cpu"), Processes())
    for step, loss in enumerate((1.0, float("nan"), float("inf"), 1.0)):
        meters.add_pass(step, torch.tensor(loss), torch.tensor(0.0), 1)
    assert meters.read().first_bad_step == 1
    meters.reset()
    assert meters.read().first_bad_step is None


def test_a_step_skipped_by_the_loss_scaler_does_not_count() -> None:
    meters = Meters(torch.device("cpu"), Processes())
    meters.add_step(0, torch.tensor(float("inf")), may_overflow=True)
    meters.add_step(1, torch.tensor(3.0), may_overflow=True)
    totals = meters.read()
    assert (totals.grad_norm, totals.first_bad_step) == (3.0, None)


@pytest.mark.parametrize("norm", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_named_if_no_scaler_skips_its_step(norm: float) -> None:
    meters = Meters(torch.device("cpu"), Processes())
    for step, value in enumerate((1.0, norm, 1.0)):
        meters.add_step(step, torch.tensor(value), may_overflow=False)
    totals = meters.read()
    assert (totals.grad_norm, totals.first_bad_step) == (1.0, 1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_reading_has_the_values_of_when_it_was_begun(device: str) -> None:
    meters = Meters(torch.device(device), Processes())
    meters.add_pass(0, torch.tensor(6.0), torch.tensor(1.0), 2)
    reading = meters.begin_reading()
    meters.add_pass(1, torch.tensor(float("nan")), torch.tensor(0.0), 2)
    meters.reset()
    totals = reading.totals()
    assert (totals.loss, totals.top1, totals.first_bad_step) == (3.0, 0.5, None)


class WithAnother(Processes):
    """As if another process had counted two images with a loss of 1 each, one of them right, and a bad step 3."""

    def sum_over_all(self, sums: torch.Tensor) -> torch.Tensor:
        return sums + torch.tensor([2.0, 1.0, 2.0])

    def min_over_all(self, values: torch.Tensor) -> torch.Tensor:
        return values.clamp(max=3)


def test_counts_of_other_processes_are_included() -> None:
    meters = Meters(torch.device("cpu"), WithAnother())
    meters.add_pass(5, torch.tensor(4.0), torch.tensor(2.0), 2)
    totals = meters.read()
    assert (totals.loss, totals.top1, totals.first_bad_step) == (1.5, 0.75, 3)


@pytest.mark.parametrize(("rank", "own"), [(0, [6.0, 1.0, 2.0]), (1, [0.0, 0.0, 0.0])])
def test_after_a_resume_the_total_is_counted_once(rank: int, own: list[float]) -> None:
    processes = Processes()
    processes.place = Place(rank=rank, world_size=2)
    meters = Meters(torch.device("cpu"), processes)
    meters.restore(torch.tensor([6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]))
    assert meters.values.tolist() == [*own, 3.0, 4.0, 5.0, 7.0]
