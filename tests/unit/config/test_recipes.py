"""What the recipes that ship resolve to, key by key: a default elsewhere must not change what their headers cite."""

from __future__ import annotations

from typing import Any

import pytest

from wrn.config.layers import recipe_names, resolve

COMMON: dict[str, Any] = {
    **{"dataset": "cifar100", "data_dir": None, "download": True, "skip_broken": False, "val_fraction": 0.0},
    **{"train_images": 0, "num_workers": 2, "crop_padding": 4, "flip": True, "augment": "none"},
    **{"randaugment_ops": 2, "randaugment_magnitude": 14, "albumentations_file": None, "cutout": 8},
    **{"random_erasing": 0.0, "mixup_alpha": 0.2, "cutmix_alpha": 0.0, "mix_probability": 1.0, "resolutions": ""},
    **{"depth": 28, "widen_factor": 10, "dropout": 0.3, "activation": "relu", "downsampling": "stride"},
    **{"num_classes": 0, "zero_init_residual": False, "bn_momentum": 0.1, "epochs": 100, "batch_size": 256},
    **{"micro_batch": "auto", "optimizer": "sgd", "lr": 0.1, "min_lr": 0.0, "schedule": "cosine"},
    **{"warmup_epochs": 5.0, "milestones": "", "lr_decay": 0.2, "momentum": 0.9, "nesterov": True},
    **{"weight_decay": 0.0005, "muon_lr": 0.02, "label_smoothing": 0.1, "gradient_clip": 0.0, "ema_decay": 0.0},
    **{"sam_rho": 0.0, "sam_batch": 0, "budget_minutes": 0.0, "budget_epochs": 0, "patience": 15},
    **{"target_accuracy": 0.0, "device": "auto", "amp": True, "amp_dtype": "auto", "compile": False},
    **{"cpu_kernels": True, "processes": "auto", "scale_lr": "none", "sync_bn": False, "deterministic": False},
    **{"seed": 0, "output_dir": None, "model_dir": None, "checkpoint_dir": None, "checkpoint_epochs": 10},
    **{"checkpoint_minutes": 2.0, "keep": 2, "resume": "auto", "resume_anyway": False, "eval_epochs": 1},
    **{"tta": False, "progress": "auto", "tensorboard": False},
}
"""The keys that recipes had when they were measured."""

RECIPES: dict[str, dict[str, Any]] = {
    "standard": {"val_fraction": 0.05, "gradient_clip": 5.0},
    "strong": {
        **{"augment": "trivialaugment", "cutout": 16, "mixup_alpha": 0.0, "dropout": 0.0, "epochs": 200},
        **{"batch_size": 128, "label_smoothing": 0.0, "ema_decay": 0.999},
    },
    "record": {
        **{"augment": "trivialaugment", "cutout": 16, "mixup_alpha": 0.0, "dropout": 0.0, "epochs": 200},
        **{"ema_decay": 0.999, "sam_rho": 0.1, "sam_batch": 32},
    },
    "sprint": {
        **{"cutout": 0, "mixup_alpha": 0.0, "resolutions": "20:0.35 24:0.35 32:0.3", "dropout": 0.0, "epochs": 30},
        **{"batch_size": 512, "optimizer": "muon", "schedule": "linear", "warmup_epochs": 2.0, "muon_lr": 0.06},
        **{"ema_decay": 0.99, "eval_epochs": 0},
    },
    "paper": {
        **{"cutout": 0, "mixup_alpha": 0.0, "epochs": 200, "batch_size": 128, "schedule": "step"},
        **{"warmup_epochs": 0.0, "milestones": "60 120 160", "label_smoothing": 0.0},
    },
    "quickstart": {
        **{"dataset": "auto", "crop_padding": 2, "cutout": 0, "mixup_alpha": 0.0, "depth": 16, "widen_factor": 2},
        **{"resolutions": "16:0.5 20:0.25 24:0.12 32:0.13", "dropout": 0.0, "activation": "silu", "epochs": 16},
        **{"downsampling": "pool", "batch_size": 512, "optimizer": "muon", "lr": 0.85, "schedule": "linear"},
        **{"warmup_epochs": 0.4, "muon_lr": 0.2, "eval_epochs": 0, "tta": True},
    },
}


@pytest.mark.parametrize("name", recipe_names())
def test_what_a_recipe_resolves_to(name: str) -> None:
    resolved = resolve(name, {}).config.model_dump(mode="json")
    assert {key: resolved[key] for key in COMMON} == COMMON | RECIPES[name]


def test_the_default_guards_a_long_run() -> None:
    """The best epoch is kept, a run that no longer improves stops, spikes are clipped, checkpoints are written."""
    standard = resolve(None, {}).config
    assert (standard.val_fraction, standard.patience, standard.gradient_clip) == (0.05, 15, 5.0)
    assert (standard.checkpoint_epochs, standard.amp) == (10, True)
