"""Two short notations of the configuration: resolution stages and milestones."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

Stage = tuple[int, float]
"""Side in pixels, and the fraction of all steps trained at it."""


def parse_stages(text: str) -> tuple[Stage, ...]:
    """`"20:0.35 24:0.4 32:0.25"` to ((20, 0.35), (24, 0.4), (32, 0.25)); empty to ((32, 1.0),).

    Raises ValueError if a part is not SIDE:SHARE, a side is not 8 to 32, or the shares do not sum to 1.
    """
    if not text.strip():
        return ((32, 1.0),)
    stages = []
    for part in text.replace(",", " ").split():
        side, colon, share = part.partition(":")
        try:
            stage = (int(side), float(share))
        except ValueError:
            colon = ""
        if not colon:
            raise ValueError(f'"{part}" is not SIDE:SHARE, for example "20:0.35 24:0.4 32:0.25"')
        if not 8 <= stage[0] <= 32:
            raise ValueError(f'"{part}": the side must be 8 to 32 pixels')
        if not 0 < stage[1] <= 1:
            raise ValueError(f'"{part}": the share must be above 0 and at most 1')
        stages.append(stage)
    total = sum(share for _, share in stages)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"the shares sum to {total:g}; they must sum to 1")
    return tuple(stages)


def format_stages(stages: tuple[Stage, ...]) -> str:
    """The inverse of `parse_stages`."""
    if stages == ((32, 1.0),):
        return ""
    return " ".join(f"{side}:{share!r}" for side, share in stages)


def parse_milestones(text: str) -> tuple[float, ...]:
    """`"60 120 160"` to (60.0, 120.0, 160.0). Raises ValueError unless they are positive and increasing."""
    try:
        epochs = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ValueError('must be epochs, for example "60 120 160"') from None
    if any(not math.isfinite(epoch) or epoch <= 0 for epoch in epochs) or any(
        later <= earlier for earlier, later in itertools.pairwise(epochs)
    ):
        raise ValueError("must be positive and increasing")
    return epochs


def as_text(value: Any) -> Any:
    """A YAML list, number or null as the text that the parsers above read."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(str(part) for part in value)
    return str(value) if isinstance(value, (int, float)) else value


def side_at(stages: Sequence[Stage], step: int, total_steps: int) -> int:
    """The side in pixels of the images at a step: each stage has its share of all steps."""
    position = (step + 0.5) / total_steps
    end = 0.0
    for side, share in stages:
        end += share
        if position < end:
            return side
    return stages[-1][0]


def steps_by_side(stages: Sequence[Stage], first_step: int, total_steps: int) -> dict[int, int]:
    """The number of steps at each side, from `first_step` on: counts `side_at` without a loop over steps."""
    found: Counter[int] = Counter()
    begin, end = min(first_step, total_steps), 0.0
    for number, (side, share) in enumerate(stages, start=1):
        end += share
        # A step belongs here if its middle, step + 0.5, lies before the end of the stage.
        after = total_steps if number == len(stages) else math.ceil(end * total_steps - 0.5)
        after = min(max(begin, after), total_steps)
        found[side] += after - begin
        begin = after
    return dict(found)
