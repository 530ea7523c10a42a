"""The optimisers: which parameters each updates, which parameters decay, and how rates and state are set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wrn.config.schema import Config
from wrn.model import Precision
from wrn.training.muon import Muon


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: the weights of convolutions and classifier, which decay, and BN and biases, which do not.

    Decaying BN's gamma and beta or biases only costs accuracy (arXiv:1706.02677, section 5.1; arXiv:1812.01187,
    section 3.1).
    """
    weights = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


class Optimizers:
    """The optimisers of a run as one: SGD for everything, or Muon for the convolutions and SGD for the rest.

    Each group knows its peak rate; the schedule sets all of them to the same fraction of their peaks. Muon computes in
    bf16 if the convolutions do, otherwise in fp32, as fp16 would underflow.

    To `torch.amp.GradScaler` this is one optimiser that skips steps itself. It must be one, so that an overflow in a
    convolution also stops SGD from updating its parameters. And it must skip by itself, as otherwise the scaler would
    check for overflows on the host, which waits for the GPU.
    """

    _step_supports_amp_scaling = True
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, config: Config, model: nn.Module, precision: Precision) -> None:
        parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        # Not the first convolution: its input is three colours, not features.
        inner = [p for name, p in parameters if p.ndim == 4 and name != "conv1.weight" and config.optimizer == "muon"]
        taken = {id(p) for p in inner}
        rest = [p for _, p in parameters if id(p) not in taken]
        self._model = model
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.SGD(
                decay_groups(rest, config.weight_decay),
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.nesterov,
                # One kernel for all parameters; not available on every device.
                fused=rest[0].device.type in ("cpu", "cuda"),
            )
        ]
        if precision.scales_loss and config.momentum:
            # The fused kernel skips a step whose scaled gradients overflow, as often happens at the first step, and
            # would leave the momentum buffer uninitialised there.
            for parameter in rest:
                self.all[0].state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        if inner:
            dtype = torch.bfloat16 if precision.dtype is torch.bfloat16 else torch.float32
            self.all.append(Muon(inner, lr=config.muon_lr, dtype=dtype))
        for group in self.param_groups:
            group["peak"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.all for group in optimizer.param_groups]

    def step(self) -> None:
        """Take a step with all optimisers, or with none if `found_inf` is above 0. Does not wait for the device."""
        for optimizer in self.all:
            optimizer.grad_scale, optimizer.found_inf = self.grad_scale, self.found_inf  # type: ignore[attr-defined]
            optimizer.step()

    def set_rate(self, fraction: float) -> None:
        """Set every group to this fraction of its peak rate."""
        for group in self.param_groups:
            group["lr"] = group["peak"] * fraction

    def state_dict(self) -> dict[str, Tensor]:
        """The state, keyed by the model's parameter names: `conv1.weight/momentum_buffer` and so on."""
        return {
            f"{name}/{key}": value
            for name, parameter in self._model.named_parameters()
            for optimizer in self.all
            if parameter in optimizer.state
            for key, value in optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restore a `state_dict`, in the memory layout of the parameters.

        Raises KeyError for a name that is not in the model.
        """
        parameters = dict(self._model.named_parameters())
        owners = {
            id(p): optimizer for optimizer in self.all for group in optimizer.param_groups for p in group["params"]
        }
        for full_name, value in tensors.items():
            name, _, key = full_name.rpartition("/")
            parameter = parameters[name]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter).copy_(value)
            owners[id(parameter)].state[parameter][key] = value.to(parameter.device)
