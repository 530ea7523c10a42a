"""What changes over a run, as pure functions of the step: the learning rate and the resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wrn.config.schema import Config
from wrn.config.stages import Stage, parse_milestones, parse_stages, side_at


@dataclass(frozen=True)
class Schedule:
    """The curves of one run, fixed before its first step.

    Steps count from 0 over the whole run. The learning rate rises linearly to `peak` over `warmup_steps` and reaches
    it at the last of them (at step 0 without warm-up). From there `cosine` and `linear` bring it to `floor` at the last
    step of the run, if any follows the warm-up; `step` multiplies it by `decay` at each of `milestones`, but never
    below `floor`.
    """

    kind: str
    peak: float
    floor: float
    warmup_steps: int
    total_steps: int
    milestones: tuple[int, ...] = ()
    decay: float = 1.0
    stages: tuple[Stage, ...] = ((32, 1.0),)

    def lr_at(self, step: int) -> float:
        """The learning rate of optimiser step `step`.

        Cosine annealing: arXiv:1608.03983, equation 5, without restarts. Warm-up: arXiv:1706.02677, section 2.2.
        """
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "step":
            return max(self.floor, self.peak * self.decay ** sum(step >= milestone for milestone in self.milestones))
        top = max(self.warmup_steps - 1, 0)
        progress = min(1.0, (step - top) / max(self.total_steps - 1 - top, 1))
        fall = progress if self.kind == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.peak + (self.floor - self.peak) * fall

    def resolution_at(self, step: int) -> int:
        """The side of the training images in pixels."""
        return side_at(self.stages, step, self.total_steps)


def make_schedule(config: Config, steps_per_epoch: int) -> Schedule:
    """The configured schedule, with epochs converted to steps."""
    return Schedule(
        kind=config.schedule,
        peak=config.lr,
        floor=config.min_lr,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        total_steps=config.epochs * steps_per_epoch,
        milestones=tuple(round(epoch * steps_per_epoch) for epoch in parse_milestones(config.milestones)),
        decay=config.lr_decay,
        stages=parse_stages(config.resolutions),
    )
