"""Sums over an epoch, kept on the device: reading them at once waits for the device, so that is done rarely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wrn.distributed.processes import Processes

NAMES = ("loss", "correct", "images", "grad_norm", "largest_grad_norm", "steps", "first_bad_step")


@dataclass(frozen=True)
class Totals:
    """Meter values on the host. first_bad_step: the first step whose loss or gradient was not finite, or None."""

    loss: float
    top1: float
    grad_norm: float
    largest_grad_norm: float
    first_bad_step: int | None


class Meters:
    """Loss, hits and gradient norm of the epoch so far, in one float64 tensor on the device (fp32 on MPS).

    Each process counts its own passes; what is read and saved is the total over all processes.
    """

    def __init__(self, device: torch.device, processes: Processes) -> None:
        self._processes = processes
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.values = torch.zeros(len(NAMES), dtype=dtype, device=device)
        self.reset()

    def reset(self) -> None:
        self.values.zero_()
        self.values[NAMES.index("first_bad_step")] = torch.inf

    def add_pass(self, step: int, loss_sum: Tensor, correct: Tensor, images: int) -> None:
        """Count one forward pass: the sum of its losses, its hits (fractional for mixed images) and its images."""
        values = self.values
        values[0] += loss_sum
        values[1] += correct
        values[2] += images
        values[6] = torch.where(torch.isfinite(loss_sum), values[6], values[6].clamp(max=step))

    def add_step(self, step: int, grad_norm: Tensor, *, may_overflow: bool) -> None:
        """Count one optimiser step and the norm of its gradient, before clipping.

        may_overflow: with loss scaling a norm may be infinite; that step is skipped and not counted. Without it, such
        a step ruins the weights.
        """
        values = self.values
        finite = torch.isfinite(grad_norm)
        values[3] += torch.where(finite, grad_norm, 0.0)
        values[4] = torch.maximum(values[4], torch.where(finite, grad_norm, 0.0))
        values[5] += finite
        if not may_overflow:
            values[6] = torch.where(finite, values[6], values[6].clamp(max=step))

    def total(self) -> Tensor:
        """The values over all processes: the sums of their counts, and the earliest bad step."""
        values = self.values.clone()
        values[:3] = self._processes.sum_over_all(values[:3])
        values[6:] = self._processes.min_over_all(values[6:])
        return values

    def restore(self, total: Tensor) -> None:
        """Restore a `total`, whose sums the first process holds for all."""
        self.values.copy_(total)
        if not self._processes.is_first:
            self.values[:3] = 0

    def begin_reading(self) -> Reading:
        """Start sending the sums to the host, as they are at this point of the device's work."""
        return Reading(self.total())

    def read(self) -> Totals:
        """Bring the sums to the host; waits for the device and the other processes."""
        return self.begin_reading().totals()


class Reading:
    """Meters on their way from the device to the host."""

    def __init__(self, total: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if total.is_cuda:
            self._values = total.to("cpu", non_blocking=True)  # into pinned memory
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(total.device))
        else:
            self._values = total.cpu()

    def totals(self) -> Totals:
        """The values. Waits for the work queued on the device before the reading, and for nothing after it."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, correct, images, norm, largest, steps, bad = self._values.tolist()
        images, steps = max(images, 1), max(steps, 1)
        return Totals(loss / images, correct / images, norm / steps, largest, None if bad == torch.inf else int(bad))
