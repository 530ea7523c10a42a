"""Which values exclude each other, and what each of the two keys changes to if it is only a default."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wrn.config.stages import parse_milestones

Values = Mapping[str, Any]
"""Every key with its value, each valid by itself."""

MOST_EPOCHS = 100_000

PAPER_SHARES = (0.3, 0.6, 0.8)
"""Milestones as shares of the run: 60, 120 and 160 of 200 epochs (arXiv:1605.07146)."""

HELD_OUT = 0.05
"""The validation split of a run that needs one, where the recipe holds nothing out."""


@dataclass(frozen=True)
class Conflict:
    """Two keys whose values exclude each other.

    problem: a sentence that names both, with the fix; empty if two given values may stay as they are.
    defaults: for either key, what it changes to when it is the default, computed from the values as they were when that
    default was set: the recipe's own.
    """

    keys: tuple[str, str]
    problem: str
    defaults: Mapping[str, Callable[[Values], Any]]


def conflicts(values: Values) -> list[Conflict]:
    """Every conflict among these values."""
    found = (rule(values) for rule in RULES)
    return [conflict for conflict in found if conflict is not None]


def _min_lr(v: Values) -> Conflict | None:
    if v["min_lr"] <= v["lr"]:
        return None
    return Conflict(
        ("min_lr", "lr"),
        f"min_lr: {v['min_lr']:g} is above lr ({v['lr']:g}); lower min_lr or raise lr",
        {"min_lr": lambda usual: _rounded(usual["min_lr"] * v["lr"] / usual["lr"]), "lr": lambda usual: v["min_lr"]},
    )


def _warmup(v: Values) -> Conflict | None:
    warmup, epochs = v["warmup_epochs"], v["epochs"]
    if warmup < epochs:
        return None
    share: dict[str, Callable[[Values], Any]] = {
        "warmup_epochs": lambda usual: _rounded(usual["warmup_epochs"] * epochs / usual["epochs"])
    }
    if warmup == epochs:  # a person may want a run that is all warm-up; a default does not mean it
        return Conflict(("warmup_epochs", "epochs"), "", share)
    problem = (
        f"warmup_epochs: {warmup:g} is longer than the run ({epochs} epochs); "
        f"give --warmup-epochs {epochs / 10:g}, or more --epochs"
    )
    longer = {"epochs": lambda usual: _epochs_after(warmup, usual["epochs"] - usual["warmup_epochs"])}
    return Conflict(("warmup_epochs", "epochs"), problem, share | longer)


def _no_milestones(v: Values) -> Conflict | None:
    if v["schedule"] != "step" or v["milestones"]:
        return None
    return Conflict(
        ("milestones", "schedule"),
        'milestones: is empty, but schedule step needs some, for example "60 120 160"',
        {
            "milestones": lambda usual: _milestones(v["epochs"] * share for share in PAPER_SHARES),
            "schedule": lambda usual: "cosine",
        },
    )


def _late_milestones(v: Values) -> Conflict | None:
    late = [epoch for epoch in parse_milestones(v["milestones"]) if epoch >= v["epochs"]]
    if v["schedule"] != "step" or not late:
        return None

    def longer(usual: Values) -> int:
        """The part after the last milestone keeps its length."""
        last = max((*parse_milestones(usual["milestones"]), 0.0))
        if not 0 < last < usual["epochs"]:
            last = PAPER_SHARES[-1] * usual["epochs"]
        return _epochs_after(late[-1], usual["epochs"] - last)

    def scaled(usual: Values) -> str:
        scale = v["epochs"] / max(usual["epochs"], late[-1] + 1)
        return _milestones(epoch * scale for epoch in parse_milestones(v["milestones"]))

    return Conflict(
        ("milestones", "epochs"),
        f"milestones: {late[0]:g} is never reached, as the run ends at epoch {v['epochs']}; "
        "give earlier --milestones, or more --epochs",
        {"milestones": scaled, "epochs": longer} if late[-1] < MOST_EPOCHS else {},
    )


def _target(v: Values) -> Conflict | None:
    if not v["target_accuracy"] or v["val_fraction"]:
        return None
    return Conflict(
        ("target_accuracy", "val_fraction"),
        "target_accuracy: needs a validation split; set val_fraction, for example 0.1",
        {"target_accuracy": lambda usual: 0.0, "val_fraction": lambda usual: HELD_OUT},
    )


def _nesterov(v: Values) -> Conflict | None:
    if not v["nesterov"] or v["momentum"]:
        return None
    return Conflict(
        ("nesterov", "momentum"),
        "nesterov: needs momentum above 0; set momentum, or nesterov false",
        {"nesterov": lambda usual: False, "momentum": lambda usual: 0.9},
    )


def _zero_init(v: Values) -> Conflict | None:
    if not v["zero_init_residual"] or v["optimizer"] != "muon":
        return None
    return Conflict(
        ("zero_init_residual", "optimizer"),
        "zero_init_residual: Muon keeps every convolution at a fixed norm, so none can start at 0; "
        "set it to false, or optimizer to sgd",
        {"zero_init_residual": lambda usual: False, "optimizer": lambda usual: "sgd"},
    )


def _micro_batch(v: Values) -> Conflict | None:
    if v["micro_batch"] == "auto" or v["micro_batch"] <= v["batch_size"]:
        return None
    return Conflict(
        ("micro_batch", "batch_size"),
        f"micro_batch: {v['micro_batch']} is above batch_size ({v['batch_size']}); lower it",
        {"micro_batch": lambda usual: "auto", "batch_size": lambda usual: v["micro_batch"]},
    )


def _one_gpu(v: Values) -> Conflict | None:
    if v["processes"] in ("auto", 1) or not v["device"].startswith("cuda:"):
        return None
    return Conflict(
        ("device", "processes"),
        f"device: {v['device']} is one GPU; give --device cuda for several processes",
        {"device": lambda usual: "cuda", "processes": lambda usual: "auto"},
    )


def _graphs(v: Values) -> Conflict | None:
    if v["processes"] == 1 or v["compile"] != "graphs":
        return None
    problem = "compile: graphs works with one process only; give --compile true, or --processes 1"
    if v["processes"] == "auto":  # which may be one anyway
        return Conflict(("compile", "processes"), "", {"processes": lambda usual: 1})
    return Conflict(("compile", "processes"), problem, {"compile": lambda usual: True, "processes": lambda usual: 1})


def _fp16(v: Values) -> Conflict | None:
    if not v["amp"] or v["amp_dtype"] != "fp16" or not v["device"].startswith(("cpu", "mps")):
        return None
    return Conflict(
        ("amp_dtype", "device"),
        f"amp_dtype: fp16 needs a GPU, but device is {v['device']}; give --amp-dtype auto, or --device cuda",
        {"amp_dtype": lambda usual: "auto", "device": lambda usual: "auto"},
    )


RULES = (
    *(_min_lr, _warmup, _no_milestones, _late_milestones, _target, _nesterov, _zero_init, _micro_batch),
    *(_one_gpu, _graphs, _fp16),
)


def _epochs_after(epoch: float, rest: float) -> int:
    """Epochs of a run that goes on for `rest` epochs after this one."""
    return min(MOST_EPOCHS, math.floor(epoch) + max(1, math.ceil(rest)))


def _milestones(epochs: Any) -> str:
    return " ".join(f"{epoch:g}" for epoch in epochs)


def _rounded(value: float) -> float:
    """Without the digits that only arithmetic adds."""
    return float(f"{value:.6g}")
