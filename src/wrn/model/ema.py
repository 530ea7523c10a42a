"""The averaged copy of a model: an exponential moving average (EMA) of weights and BN statistics."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn


def decay_at(decay: float, updates: int) -> float:
    """The decay to use after this many updates: a short average early on, so that the random start is forgotten.

    The warm-up (1 + t) / (10 + t) is that of tf.train.ExponentialMovingAverage.
    """
    return min(decay, (1 + updates) / (10 + updates))


Network = TypeVar("Network", bound=nn.Module)


class AveragedModel(Generic[Network]):
    """A copy of a model whose weights and BN statistics follow the model's as a moving average.

    BN's running mean and variance are averaged with the same decay as the weights, so that they match the averaged
    weights; integer buffers (batch counts) are copied.
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.module: Network = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        averages, sources = self._tensors(self.module), self._tensors(model)
        pairs = [(average, sources[name]) for name, average in averages.items()]
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @staticmethod
    def _tensors(model: nn.Module) -> dict[str, Tensor]:
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the model's current values."""
        share = 1 - decay_at(self.decay, self.updates)
        torch._foreach_lerp_([own for own, _ in self._averaged], [source for _, source in self._averaged], share)
        torch._foreach_copy_([own for own, _ in self._copied], [source for _, source in self._copied])
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], updates: int) -> None:
        self.module.load_state_dict(state)
        self.updates = updates
