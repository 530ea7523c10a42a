"""Muon: momentum with orthogonalised updates, for convolutions.

Method: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), close to the variant that cifar10-airbench uses
for small convolutional networks: low momentum, few Newton-Schulz iterations, and weights held at a fixed norm instead
of weight decay. If BN follows a convolution, as it does the first of the two in a WRN's block, its norm does not change
the network's output. The second convolution and the shortcut are added up, so their fixed norms fix their shares of the
sum; without that, the norms grow and slow down their learning too soon (docs/experiments.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration, chosen to raise small singular values fastest."""


def orthogonalise(matrices: Tensor, iterations: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Push all singular values of each matrix (n, rows, columns) towards 1, keeping its singular vectors; in `dtype`.

    Five iterations bring nearly all of them to 0.5 to 1.5. After three, those far below the largest stay far below 1.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For parameters of four dimensions (out, in, height, width), treated as matrices (out, height * width * in).

    Each step first scales a weight to the norm sqrt(out), then moves it by lr * sqrt(max(1, rows / columns)) times
    the orthogonalised Nesterov momentum of its gradient. Weights of the same shape are updated together: a WRN has few
    shapes, and a GPU would otherwise wait for hundreds of small kernel launches.

    dtype: of the iterations. bf16 suffices, but where the hardware only emulates it, it is many times slower than fp32.
    found_inf: set by a loss scaler; if above 0, the step changes nothing.
    """

    _step_supports_amp_scaling = True
    found_inf: Tensor | None = None

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.6,
        iterations: int = 3,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "iterations": iterations})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            gradients: list[Any] = [p.grad for p in weights]
            buffers = [self._buffer(p) for p in weights]
            changed: list[Tensor] = [*weights, *buffers]
            before = [tensor.clone() for tensor in changed] if self.found_inf is not None else []
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients)
            directions = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
            by_shape: dict[torch.Size, list[int]] = defaultdict(list)
            for index, weight in enumerate(weights):
                by_shape[weight.shape].append(index)
            for (out, inside, height, width), members in by_shape.items():
                # (out, height, width, in) is the memory layout of a channels-last weight.
                flat = torch.stack([directions[i].permute(0, 2, 3, 1).reshape(out, -1) for i in members])
                moves = orthogonalise(flat, group["iterations"], self._dtype).to(weights[members[0]].dtype)
                moves = moves.reshape(-1, out, height, width, inside).permute(0, 1, 4, 2, 3)
                same = [weights[i] for i in members]
                norms = torch.stack(torch._foreach_norm(same)).clamp_(min=1e-7)
                torch._foreach_mul_(same, (out**0.5 / norms).unbind())
                torch._foreach_add_(same, moves.unbind(), alpha=-group["lr"] * max(1.0, out / flat.shape[2]) ** 0.5)
            if self.found_inf is not None:
                for tensor, old in zip(changed, before, strict=True):
                    tensor.copy_(torch.where(self.found_inf > 0, old, tensor))

    def _buffer(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
