"""The events of a run, and what receives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reporter(Protocol):
    """Receives events; decides what to show."""

    def note(self, message: str) -> None:
        """One line for people."""

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        """Training starts at `first_step`. Earlier steps of its epoch took `seconds`, in an earlier start."""

    def step(self, step: int, lr: float, images: int) -> None:
        """A step over `images` images was issued. Called very often, so must be cheap."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch ended; `row` is its line of history.jsonl."""

    def download(self, done: int, total: int | None) -> None:
        """Bytes downloaded so far, and in total."""

    def close(self) -> None:
        """No more events follow."""


class SilentReporter:
    """Shows nothing, for all processes except the first."""

    def note(self, message: str) -> None:
        pass

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        pass

    def step(self, step: int, lr: float, images: int) -> None:
        pass

    def epoch(self, row: Mapping[str, Any]) -> None:
        pass

    def download(self, done: int, total: int | None) -> None:
        pass

    def close(self) -> None:
        pass
