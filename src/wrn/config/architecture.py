"""Which networks there are, and the arithmetic that one takes. Imports no torch: the launcher plans with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Activation = Literal["relu", "silu"]
Downsampling = Literal["stride", "pool"]


@dataclass(frozen=True)
class Architecture:
    """What a network computes with given weights: enough to rebuild it from a file."""

    depth: int
    widen_factor: int
    dropout: float
    num_classes: int
    activation: Activation = "relu"
    downsampling: Downsampling = "stride"

    def __str__(self) -> str:
        deviations = {"SiLU": self.activation == "silu", "pooling": self.downsampling == "pool"}
        listed = " and ".join(name for name, present in deviations.items() if present)
        return f"WRN-{self.depth}-{self.widen_factor}" + (f" with {listed}" if listed else "")

    @property
    def blocks_per_group(self) -> int:
        return (self.depth - 4) // 6

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Channels after the first convolution and after each of the three groups."""
        return 16, 16 * self.widen_factor, 32 * self.widen_factor, 64 * self.widen_factor


def nearest_depths(depth: int) -> tuple[int, int] | None:
    """The nearest valid depths, 6n+4 with n >= 1; None if this depth is valid."""
    if depth >= 10 and (depth - 4) % 6 == 0:
        return None
    below = 4 + 6 * max(1, (depth - 4) // 6)
    return below, below + 6


@lru_cache(maxsize=64)
def multiply_adds(architecture: Architecture, side: int = 32) -> int:
    """Multiply-adds of convolutions and classifier for one forward pass of one image of `side` pixels.

    WRN-28-10 with 100 classes at 32 px: 5,243,386,368.
    """
    stem, *widths = architecture.widths
    total = 27 * stem * side * side
    inputs = stem
    for group, outputs in enumerate(widths):
        if group:
            side = (side + 1) // 2  # a 3x3 convolution of stride 2 and padding 1
        for _ in range(architecture.blocks_per_group):
            total += (9 * inputs * outputs + 9 * outputs * outputs) * side * side
            if inputs != outputs:
                total += inputs * outputs * side * side
            inputs = outputs
    return total + inputs * architecture.num_classes


def training_flops(forward: int) -> int:
    """FLOP of training passes whose forward passes take `forward` multiply-adds.

    A multiply-add is two FLOP; the backward half is two products of the same size.
    """
    return 2 * 3 * forward
