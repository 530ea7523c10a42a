"""Each epoch's figures as TensorBoard events."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from wrn.errors import ConfigError
from wrn.text import printable
from wrn.trackers.events import Reporter


def check_tensorboard() -> None:
    """Raises ConfigError if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tensorboard: is not installed; pip install 'wrn-cifar[tensorboard]', or omit --tensorboard")


class TensorBoardReporter:
    """Passes everything on, and also writes each epoch's figures as TensorBoard events.

    directory: created when training begins, so that a run that never began leaves none.
    Raises ConfigError if its path is not UTF-8.
    """

    def __init__(self, inner: Reporter, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if printable(str(directory)) != str(directory):
            raise ConfigError(
                f"tensorboard: cannot write to {directory}, whose name is not UTF-8; give another --output-dir, or "
                "omit --tensorboard"
            )
        self._inner = inner
        self._make_writer = partial(SummaryWriter, str(directory))
        self._writer: Any = None
        self.note, self.step, self.download = inner.note, inner.step, inner.download

    def begin(self, total_steps: int, first_step: int, steps_per_epoch: int, seconds: float = 0.0) -> None:
        self._writer = self._make_writer()
        self._inner.begin(total_steps, first_step, steps_per_epoch, seconds)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._inner.epoch(row)
        for key, value in row.items():
            if isinstance(value, (int, float)) and key not in ("epoch", "epochs", "step"):
                self._writer.add_scalar(key, value, row["epoch"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._inner.close()
