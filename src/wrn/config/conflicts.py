"""Which values exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wrn.config.stages import parse_milestones

if TYPE_CHECKING:
    from wrn.config.schema import Config


def conflicts(config: Config) -> list[str]:
    """A sentence for each pair of keys whose values exclude each other."""
    problems = []  # each names all the keys it concerns
    if config.min_lr > config.lr:
        problems.append(f"min_lr: {config.min_lr:g} is above lr ({config.lr:g}); lower min_lr or raise lr")
    if config.warmup_epochs > config.epochs:
        problems.append(
            f"warmup_epochs: {config.warmup_epochs:g} is longer than the run ({config.epochs} epochs); "
            f"give --warmup-epochs {config.epochs / 10:g}, or more --epochs"
        )
    if config.schedule == "step" and not config.milestones:
        problems.append('milestones: is empty, but schedule step needs some, for example "60 120 160"')
    late = [epoch for epoch in parse_milestones(config.milestones) if epoch >= config.epochs]
    if config.schedule == "step" and late:
        problems.append(
            f"milestones: {late[0]:g} is never reached, as the run ends at epoch {config.epochs}; "
            "give earlier --milestones, or more --epochs"
        )
    if config.target_accuracy and not config.val_fraction:
        problems.append("target_accuracy: needs a validation split; set val_fraction, for example 0.1")
    if config.nesterov and not config.momentum:
        problems.append("nesterov: needs momentum above 0; set momentum, or nesterov false")
    if config.zero_init_residual and config.optimizer == "muon":
        problems.append(
            "zero_init_residual: Muon keeps every convolution at a fixed norm, so none can start at 0; "
            "set it to false, or optimizer to sgd"
        )
    if isinstance(config.micro_batch, int) and config.micro_batch > config.batch_size:
        problems.append(f"micro_batch: {config.micro_batch} is above batch_size ({config.batch_size}); lower it")
    if isinstance(config.processes, int) and config.processes > 1 and config.device.startswith("cuda:"):
        problems.append(f"device: {config.device} is one GPU; give --device cuda for several processes")
    return problems
