"""`--budget-minutes`: how many epochs fit into a given time on this machine."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import torch

from wrn.config import Config
from wrn.config.stages import parse_milestones, parse_stages
from wrn.data.dataset import Dataset, Split
from wrn.data.loader import Loader
from wrn.evaluation.evaluate import evaluate
from wrn.model import Precision, WideResNet
from wrn.training.checkpoint import Checkpoint
from wrn.training.optimizer import Optimizers
from wrn.training.schedule import make_schedule
from wrn.training.step import TrainStep

TIMED_SECONDS = 2.0
"""How long the steps at each resolution are timed, after a first one that chooses or compiles kernels."""
RESERVE = 0.05
"""Share of the budget held back: machines rarely keep the speed of their first seconds, as other programs compete for
them or they heat up. Ten-minute runs planned without a reserve took up to 6.6% longer
(benchmarks/results/quickstart-29-epochs-amx.json)."""
EVALUATED = 1000
"""Test images that an evaluation is timed on."""


def seconds_per_step(config: Config, model: WideResNet, loader: Loader, precision: Precision) -> float:
    """The time of a step, averaged over the recipe's resolutions by their shares.

    model: a throwaway, as the steps change it.
    """
    schedule = make_schedule(config, loader.steps_per_epoch)
    train_step = TrainStep(config, model, Optimizers(config, model, precision), precision, schedule, lambda note: None)
    total, mean, begin = schedule.total_steps, 0.0, 0.0
    for _, share in parse_stages(config.resolutions):
        first = min(round(begin * total), total - 1)
        end = max(first + 1, min(round((begin + share) * total), total))
        batches = itertools.chain.from_iterable(loader.batches(first, end) for _ in itertools.repeat(None))
        train_step(first, next(batches))
        train_step.meters.read()  # waits for the device
        started, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - started < TIMED_SECONDS:
            train_step(first, next(batches))
            train_step.meters.read()
            steps += 1
        mean += share * (time.perf_counter() - started) / steps
        begin += share
    return mean


def seconds_per_evaluation(config: Config, model: WideResNet, dataset: Dataset, precision: Precision) -> float:
    """How long scoring the test split takes, with mirror images if the run scores them too."""
    some = Split(dataset.test.images[:EVALUATED], dataset.test.labels[:EVALUATED])
    for _ in range(2):  # the first pass chooses kernels
        started = time.perf_counter()
        evaluate(model, some, mean=dataset.mean, std=dataset.std, precision=precision, tta=config.tta)
        seconds = time.perf_counter() - started
    return seconds * len(dataset.test) / len(some)


@dataclass(frozen=True)
class Costs:
    """Seconds that a run takes on this machine: per epoch, with its share of the evaluations, and one-off costs."""

    epoch: float
    once: float

    @classmethod
    def of(cls, config: Config, step_s: float, steps_per_epoch: int, evaluation_s: float, spent_s: float) -> Costs:
        """spent_s: time already spent on measuring. The final evaluation is counted in addition to those of epochs."""
        between = evaluation_s / config.eval_epochs if config.eval_epochs else 0.0
        return cls(step_s * steps_per_epoch + between, spent_s + evaluation_s)


def fitting_epochs(config: Config, costs: Costs) -> int:
    """The most epochs, at least 1 and at most `budget_epochs`, that end within the budget less its reserve."""
    fitting = max(1, int((60 * config.budget_minutes * (1 - RESERVE) - costs.once) / costs.epoch))
    return min(fitting, config.budget_epochs or fitting)


def with_epochs(config: Config, epochs: int) -> Config:
    """The same recipe over this many epochs: warm-up and milestones keep their share of the run."""
    scale = epochs / config.epochs
    milestones = " ".join(f"{epoch * scale:g}" for epoch in parse_milestones(config.milestones))
    return config.model_copy(
        update={"epochs": epochs, "warmup_epochs": config.warmup_epochs * scale, "milestones": milestones}
    )


def as_chosen_before(config: Config, before: Checkpoint) -> tuple[Config, str]:
    """The configuration with the epochs chosen before this checkpoint was written, and one line that says so.

    Nothing is measured again: on a replacement machine a different number might fit, and the run could not resume.
    """
    keys = ("epochs", "warmup_epochs", "milestones")
    chosen = config.model_copy(update={key: before.state["config"][key] for key in keys})
    return chosen, f"budget of {config.budget_minutes:g} min: {chosen.epochs} epochs, as chosen when the run began"


def within_budget(
    config: Config, model: WideResNet, dataset: Dataset, loader: Loader, precision: Precision
) -> tuple[Config, str]:
    """The configuration with as many epochs as fit into `budget_minutes`, and one line that reports them.

    model: a throwaway.
    """
    started, generator_state = time.perf_counter(), torch.get_rng_state()
    step_s = seconds_per_step(config, model, loader, precision)
    evaluation_s = seconds_per_evaluation(config, model, dataset, precision)
    torch.set_rng_state(generator_state)
    costs = Costs.of(config, step_s, loader.steps_per_epoch, evaluation_s, time.perf_counter() - started)
    chosen = with_epochs(config, fitting_epochs(config, costs))
    expected = (chosen.epochs * costs.epoch + costs.once) / 60
    same = f"--epochs {chosen.epochs} --warmup-epochs {chosen.warmup_epochs:g}"
    if chosen.milestones:
        same += f' --milestones "{chosen.milestones}"'
    return chosen, (
        f"budget of {config.budget_minutes:g} min: {config.batch_size / step_s:,.0f} images/s measured, so "
        f"{chosen.epochs} epochs (about {expected:.1f} min, {RESERVE:.0%} held in reserve); "
        f"to repeat exactly: {same} --budget-minutes 0"
    )
