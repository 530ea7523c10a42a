"""Choosing the best epoch and when to stop early, by the validation split only, never by the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Selection:
    """Remembers the best validation top-1 and the weights that reached it; every checkpoint contains them.

    patience: stop after this many epochs without improvement; 0: never. target: top-1 at which to stop; 0: never.
    best_weights: of the best epoch, by name; empty until an epoch is judged.
    """

    def __init__(self, patience: int, target: float) -> None:
        self.best_top1 = -1.0
        self.best_epoch = 0
        self.best_weights: Mapping[str, Tensor] = {}
        self.judged_epoch = 0
        self.stop_reason = ""
        self._patience = patience
        self._target = target

    def judge(self, top1: float, epoch: int, model: nn.Module) -> None:
        """Record an epoch's validation top-1; keep its weights if it is the best so far."""
        if top1 > self.best_top1:
            self.best_top1, self.best_epoch = top1, epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.judged_epoch = epoch
        self._decide()

    def _decide(self) -> None:
        """Decide whether the run ends after the last judged epoch."""
        self.stop_reason = ""
        if self.best_epoch == 0:
            return
        if self._target and self.best_top1 >= self._target:
            self.stop_reason = f"validation top-1 reached {self.best_top1:.2%}, the target was {self._target:.2%}"
        elif self._patience and self.judged_epoch - self.best_epoch >= self._patience:
            self.stop_reason = (
                f"validation top-1 did not improve for {self._patience} epochs "
                f"(best {self.best_top1:.2%} in epoch {self.best_epoch})"
            )

    def load_best(self, model: nn.Module) -> None:
        """Load the best epoch's weights into the model. At least one epoch must have been judged."""
        with torch.no_grad():
            model.load_state_dict(dict(self.best_weights))

    def state_dict(self) -> dict[str, Any]:
        """Everything except the weights."""
        return {"best_top1": self.best_top1, "best_epoch": self.best_epoch, "judged_epoch": self.judged_epoch}

    def load_state_dict(self, state: Mapping[str, Any], best_weights: Mapping[str, Tensor]) -> None:
        """Restore the state after the last judged epoch. Whether the run ends there depends on the current settings.

        Raises KeyError if there was a best epoch but its weights are missing.
        """
        if state["best_epoch"] and not best_weights:
            raise KeyError("the weights of the best epoch")
        self.best_top1 = state["best_top1"]
        self.best_epoch = state["best_epoch"]
        self.best_weights = best_weights
        self.judged_epoch = state["judged_epoch"]
        self._decide()
