"""One thing of ours on AWS: what it is, its size, and what it costs as long as it stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wrn.errors import AwsError

HOURS_PER_MONTH = 730

Unseen = Callable[[str, AwsError], None]
"""Called with the name of one thing that could not be looked at, and why: the others are looked at all the same."""


@dataclass(frozen=True)
class Resource:
    """Something of ours. Money in US dollars, None where no price is known; `data`: what its removal needs."""

    kind: str
    name: str
    detail: str = ""
    bytes: int = 0
    per_hour: float | None = 0.0
    per_month: float | None = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def monthly(self) -> float | None:
        """If it stays as it is for a month; a job ends by itself, and is counted by the hour alone."""
        if self.kind in ("training job", "warm pool"):
            return 0.0
        if self.per_hour is None or self.per_month is None:
            return None
        return self.per_month + HOURS_PER_MONTH * self.per_hour
