"""Keys that have no effect, given the other keys. Reported only if set by a flag: its author expects an effect."""

from __future__ import annotations

from wrn.config.layers import Resolved
from wrn.config.schema import Config

NEEDS = {
    **dict.fromkeys(("randaugment_ops", "randaugment_magnitude"), ("augment randaugment",)),
    **dict.fromkeys(("albumentations_file", "num_workers"), ("augment albumentations",)),
    "mix_probability": ("mixup_alpha", "cutmix_alpha"),
    **dict.fromkeys(("milestones", "lr_decay"), ("schedule step",)),
    "muon_lr": ("optimizer muon",),
    "sam_batch": ("sam_rho",),
    "budget_epochs": ("budget_minutes",),
    "patience": ("val_fraction",),
}
"""For each key, what gives it an effect, any one of these: a key that is on, or a key with that value."""


def idle_keys(resolved: Resolved) -> list[str]:
    """A sentence for each key that a flag turned on without effect."""
    config = resolved.config
    return [
        f"{key}: has no effect without {' or '.join(needs)}"
        for key, needs in NEEDS.items()
        if resolved.origins[key] == "flag" and getattr(config, key) and not any(_holds(config, need) for need in needs)
    ]


def _holds(config: Config, need: str) -> bool:
    key, _, value = need.partition(" ")
    return bool(getattr(config, key) == value if value else getattr(config, key))
