"""The network as a step sees it: its forward pass, compiled or not, alone or sharing gradients with other processes."""

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
"""What the configuration's `compile` may be."""

MOST_SHAPES = 64
"""Shapes of batches that may be compiled. torch's own limit of 8 would leave a recipe of several resolutions, each
with micro-batches and their remainder, to run uncompiled from some step on, without a word."""


class Replica:
    """A model whose backward pass averages gradients over the processes, if there are several.

    Compiled for each shape of its own: compiling for any size of batch instead gives up fixed bounds and CUDA graphs.
    With `graphs`, forward and backward pass are recorded as CUDA graphs and replayed: the host then launches two
    things instead of a thousand, which pays where a GPU waits for it (small batches, as SAM's sub-batches are). What
    a graph hands out lies in memory that its next replay overwrites, so whoever keeps gradients over a second forward
    pass must add them up in memory of its own: see `new_gradients`.
    """

    def __init__(self, model: nn.Module, compile: Compile, on_note: Callable[[str], None] = lambda note: None) -> None:
        self._model = model
        self._graphs = compile == "graphs"
        self._on_note = on_note
        self._shapes: set[torch.Size] = set()
        self.compile_seconds = 0.0  # of all shapes so far, with their first pass forward and backward
        self._new: tuple[torch.Size, float] | None = None  # a shape whose backward pass is not compiled yet
        self._compiled: Callable[[Tensor], Tensor] | None = None
        if compile:
            keep_compiled_code()
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            self._compiled = torch.compile(model, dynamic=False, mode="reduce-overhead" if self._graphs else None)

    def forward(self, images: Tensor, *, usual: bool = True) -> Tensor:
        """Logits.

        usual: whether batches of this size come all the time. The last, smaller one of an epoch does not: it runs
        uncompiled, since compiling takes longer than it could ever save.
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
        """The gradients of a loss of `forward`'s last logits. Behind a new shape, this compiles the backward pass."""
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
        """What gradients are added to: nothing, so that the first ones are taken as they come; zeros with graphs."""
        if not self._graphs:
            return [None] * len(parameters)
        zeros = [torch.empty_like(parameter) for parameter in parameters]
        torch._foreach_zero_(zeros)
        return list(zeros)

    def unsynchronised(self) -> AbstractContextManager[None]:
        """Inside, backward passes keep their gradients to this process."""
        if isinstance(self._model, nn.parallel.DistributedDataParallel):
            return self._model.no_sync()
        return nullcontext()


def keep_compiled_code() -> None:
    """Compiled code goes to a folder of the user's, unless the environment names one: it outlives a reboot there.

    A second start then takes seconds where the first took a minute.
    """
    folder = compile_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a home that cannot be written: torch has a folder of its own
    if os.access(folder, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
