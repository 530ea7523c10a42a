"""What a training step takes: images ready for the network, and one or two labels for each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch on the device.

    images: float32 (B, 3, H, W), normalised, channels-last.
    labels: int64 (B,).
    other_labels, weight: for mixed images the second label, int64 (B,), and the share of the first, float32 (B,);
        None if nothing is mixed. Equivalent to soft one-hot labels, in less memory.
    global_images: images of the whole batch if these are one process's share of it; None if these are all.
    """

    images: Tensor
    labels: Tensor
    other_labels: Tensor | None = None
    weight: Tensor | None = None
    global_images: int | None = None

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def global_size(self) -> int:
        """Images over all processes."""
        return self.size if self.global_images is None else self.global_images

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the batch, without those that are None."""
        return [t for t in (self.images, self.labels, self.other_labels, self.weight) if t is not None]

    def rows(self, rows: slice) -> Batch:
        """The part of the batch in these rows."""
        return Batch(
            self.images[rows],
            self.labels[rows],
            None if self.other_labels is None else self.other_labels[rows],
            None if self.weight is None else self.weight[rows],
        )
