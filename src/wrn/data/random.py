"""Random numbers that are a pure function of (seed, purpose, position): nothing to save, nothing to restore.

Every random choice of a run is drawn from a counter-based generator (Philox, Salmon et al. 2011) keyed by the run's
seed and the purpose of the numbers. So the batch at step s is the same after a resume, on a CPU or a GPU, with one
process or eight: there is no generator state to lose.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, purpose: str, position: int = 0) -> np.random.Generator:
    """A generator for one purpose ("order", "augment", ...) at one position (an epoch or a step)."""
    key = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, zlib.crc32(purpose.encode()) << 32 | position], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """The values as a tensor on the device, without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_device_together(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """The same for several arrays in one transfer, as each transfer to a GPU costs the host about 10 us."""
    if device.type != "cuda":
        return [to_device(values, device) for values in arrays]
    return unpacked(to_device(packed(arrays), device), arrays)


def packed(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The bytes of the arrays one after another, each starting at a multiple of 8."""
    padded = [np.pad(np.ascontiguousarray(a).reshape(-1).view(np.uint8), (0, -a.nbytes % 8)) for a in arrays]
    return np.concatenate(padded)


def unpacked(bytes_of_all: Tensor, like: Sequence[np.ndarray]) -> list[Tensor]:
    """The inverse of `packed(like)`: views of its bytes, uint8 (N,), with the types and shapes of the arrays."""
    tensors, start = [], 0
    for values in like:
        dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
        tensors.append(bytes_of_all[start : start + values.nbytes].view(dtype).view(values.shape))
        start += values.nbytes + -values.nbytes % 8
    return tensors


class BatchRandom:
    """Per-image random numbers for one global batch, on the device, of which a process may take only its rows.

    Numbers are drawn on the host for the whole global batch and then cut to `rows`, so that an image gets the same
    numbers with any number of processes.
    """

    def __init__(
        self,
        draws: np.random.Generator,
        batch_size: int,
        *,
        rows: slice = slice(None),
        device: torch.device | str = "cpu",
    ) -> None:
        self._draws = draws
        self._batch_size = batch_size
        self._rows = rows
        self._device = torch.device(device)

    def _ship(self, values: np.ndarray) -> Tensor:
        return to_device(values[self._rows], self._device)

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        """float32 (rows, *shape) in [low, high)."""
        unit = self._draws.random((self._batch_size, *shape), dtype=np.float32)
        return self._ship(unit * np.float32(high - low) + np.float32(low))

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """int64 (rows, *shape) in low..high-1."""
        return self._ship(self._draws.integers(low, high, size=(self._batch_size, *shape)))

    def chance(self, probability: float) -> Tensor:
        """bool (rows,), true with the given probability."""
        return self._ship(self._draws.random(self._batch_size, dtype=np.float32) < probability)

    def beta(self, alpha: float) -> Tensor:
        """float32 (rows,) from Beta(alpha, alpha)."""
        return self._ship(self._draws.beta(alpha, alpha, self._batch_size).astype(np.float32))

    def shared_normal(self, count: int) -> Tensor:
        """float32 (count,) from the standard normal distribution, the same for every image and process."""
        return to_device(self._draws.standard_normal(count, dtype=np.float32), self._device)

    def host_integers(self, low: int, high: int) -> np.ndarray:
        """int64 (rows,) in low..high-1, on the host, for choices that determine which kernels run."""
        return self._draws.integers(low, high, size=self._batch_size)[self._rows]
