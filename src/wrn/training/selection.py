"""Choosing the best epoch, and when to stop early: by the validation split alone, never by the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from wrn.errors import CheckpointError
from wrn.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

BEST = "best.safetensors"


class Selection:
    """Remembers the best validation top-1 and keeps the weights that reached it in the checkpoint folder.

    patience: epochs without a better one after which to stop; 0: never. target: top-1 at which to stop; 0: never.
    writes: whether this process is the one that keeps the weights.
    """

    def __init__(self, patience: int, target: float, directory: Path, *, writes: bool = True) -> None:
        self.best_top1 = -1.0
        self.best_epoch = 0
        self.stop_reason = ""
        self._patience = patience
        self._target = target
        self._path = directory / BEST
        self._writes = writes

    def judge(self, top1: float, epoch: int, model: nn.Module) -> None:
        """Take note of an epoch's validation top-1; keep its weights if it is the best so far."""
        if top1 > self.best_top1:
            self.best_top1, self.best_epoch = top1, epoch
            if self._writes:
                kept = Checkpoint(model.state_dict(), {"step": 0, "epoch": epoch, "top1": top1})
                write_checkpoint(self._path, kept)
        if self._target and top1 >= self._target:
            self.stop_reason = f"validation top-1 reached {top1:.2%}, the target was {self._target:.2%}"
        elif self._patience and epoch - self.best_epoch >= self._patience:
            self.stop_reason = (
                f"no better validation top-1 for {self._patience} epochs "
                f"(best {self.best_top1:.2%} in epoch {self.best_epoch})"
            )

    def load_best(self, model: nn.Module) -> bool:
        """Put the best epoch's weights into the model. False, and nothing done, where no epoch was judged.

        Raises CheckpointError when the kept weights are damaged.
        """
        if self.best_epoch == 0:
            return False
        tensors = dict(read_checkpoint(self._path).tensors)
        try:
            with torch.no_grad():
                model.load_state_dict(tensors)
        except RuntimeError:
            raise CheckpointError(f"{self._path}: holds the weights of another network; remove it") from None
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best_top1": self.best_top1, "best_epoch": self.best_epoch, "stop_reason": self.stop_reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_top1 = state["best_top1"]
        self.best_epoch = state["best_epoch"]
        self.stop_reason = state["stop_reason"]
