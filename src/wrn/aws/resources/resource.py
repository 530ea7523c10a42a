"""One resource of wrn on AWS: its kind, size and running cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wrn.errors import AwsError

HOURS_PER_MONTH = 730

Unseen = Callable[[str, AwsError], None]
"""Called with the name of a resource that could not be inspected, and why; the others are still inspected."""


@dataclass(frozen=True)
class Resource:
    """A resource of wrn. Costs in US dollars, None if no price is known; `data`: what its removal needs."""

    kind: str
    name: str
    detail: str = ""
    bytes: int = 0
    per_hour: float | None = 0.0
    per_month: float | None = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def monthly(self) -> float | None:
        """The cost of keeping it for a month; a job ends by itself, so only its hourly cost counts."""
        if self.kind in ("training job", "warm pool"):
            return 0.0
        if self.per_hour is None or self.per_month is None:
            return None
        return self.per_month + HOURS_PER_MONTH * self.per_hour
