"""The network as a training step uses it: compiled or not, on its own or sharing gradients with other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from wrn.config.paths import compile_cache

Compile = bool | Literal["graphs"]
"""The values of the configuration's `compile`."""

MOST_SHAPES = 64
"""Batch shapes that may be compiled. With torch's default limit of 8, a recipe with several resolutions, each with
micro-batches and a remainder, would silently run uncompiled from some step on."""


class Replica:
    """A model whose backward pass averages gradients over the processes, if there are several.

    Compiled separately for each shape: compiling for dynamic shapes would give up fixed bounds and CUDA graphs.
    With `graphs`, forward and backward pass are recorded as CUDA graphs and replayed: the host then makes two launches
    instead of a thousand, which pays if the GPU would wait for it (small batches, such as SAM's sub-batches). The next
    replay overwrites the memory of a graph's outputs, so gradients that must survive a second forward pass have to be
    accumulated in separate memory: see `new_gradients`.
    """

    def __init__(self, model: nn.Module, compile: Compile, on_note: Callable[[str], None] = lambda note: None) -> None:
        self._model = model
        self._graphs = compile == "graphs"
        self._on_note = on_note
        self._shapes: set[torch.Size] = set()
        self.compile_seconds = 0.0  # of all shapes so far, including their first forward and backward pass
        self._new: tuple[torch.Size, float] | None = None  # a shape whose backward pass is yet to be compiled
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if compile:
            keep_compiled_code()
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            self._compiled = torch.compile(model, dynamic=False, mode="reduce-overhead" if self._graphs else None)

    def forward(self, images: Tensor, *, usual: bool = True) -> Tensor:
        """Logits.

        usual: whether this is the usual batch size. The smaller last batch of an epoch runs uncompiled, as compiling
        takes longer than it could ever save.
        """
        if self._compiled is None or not usual:
            return self._model(images)
        if images.shape in self._shapes:
            return self._compiled(images)
        self._shapes.add(images.shape)
        started = time.perf_counter()
        logits = self._compiled(images)
        self._new = images.shape, time.perf_counter() - started
        return logits

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss of `forward`'s last logits; for a new shape, compiles the backward pass."""
        if self._new is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        (shape, taken), self._new = self._new, None
        started = time.perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        taken += time.perf_counter() - started
        self.compile_seconds += taken
        batch, _, side, _ = shape
        self._on_note(f"compiled for {batch} images of {side} px in {taken:.1f} s")

    def new_gradients(self, parameters: list[nn.Parameter]) -> list[Tensor | None]:
        """What gradients accumulate into: None, so that the first ones are used directly, or with graphs, zeros."""
        if not self._graphs:
            return [None] * len(parameters)
        zeros = [torch.empty_like(parameter) for parameter in parameters]
        torch._foreach_zero_(zeros)
        return list(zeros)

    def unsynchronised(self) -> AbstractContextManager[None]:
        """Inside, backward passes do not average gradients over processes."""
        if isinstance(self._model, nn.parallel.DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()


def keep_compiled_code() -> None:
    """Keep compiled code in the user's cache folder, where it survives reboots, unless the environment names another.

    A second start then takes seconds instead of a minute.
    """
    folder = compile_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # the home directory is not writable: torch uses its own folder
    if os.access(folder, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
