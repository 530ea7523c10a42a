"""How good a set of predictions is: pure functions from logits and labels to scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CALIBRATION_BINS = 15
"""As in arXiv:1706.04599."""


@dataclass(frozen=True)
class Scores:
    """Scores over a split.

    top1, top5, superclass: shares of images, 0 to 1. superclass is None if the classes have no superclasses.
    loss: mean cross-entropy in nats, without label smoothing.
    ece: expected calibration error, 0 to 1.
    per_class: top-1 share of each class, by label; None for a class without images.
    """

    images: int
    top1: float
    top5: float
    loss: float
    ece: float
    superclass: float | None
    per_class: tuple[float | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """The scores for logs and files, without the per-class list."""
        figures = {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "ece": self.ece,
        }
        return figures if self.superclass is None else {**figures, "superclass": self.superclass}


def score(logits: Tensor, labels: Tensor, superclass_of: Sequence[int] = ()) -> Scores:
    """Score float logits (N, classes) against int64 labels (N,). N is at least 1.

    Always on the CPU: this uses double precision, which Apple's MPS lacks.
    """
    logits, labels = logits.float().cpu(), labels.cpu()
    classes = logits.shape[1]
    ranked = logits.topk(min(5, classes), dim=1).indices
    hits = ranked == labels[:, None]
    right = hits[:, 0]
    superclass = None
    if superclass_of:
        table = torch.tensor(superclass_of)
        superclass = (table[ranked[:, 0]] == table[labels]).double().mean().item()
    seen = torch.bincount(labels, minlength=classes)
    hit = torch.bincount(labels[right], minlength=classes)
    return Scores(
        images=len(labels),
        top1=right.double().mean().item(),
        top5=hits.any(1).double().mean().item(),
        loss=F.cross_entropy(logits, labels, reduction="none").double().mean().item(),
        ece=expected_calibration_error(logits, labels),
        superclass=superclass,
        per_class=tuple(h / n if n else None for h, n in zip(hit.tolist(), seen.tolist(), strict=True)),
    )


def expected_calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Mean gap between confidence and accuracy over equal-width confidence bins (arXiv:1706.04599, eq. 3)."""
    confidence, best = logits.softmax(1).max(1)
    gap = (best == labels).double() - confidence.double()
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64).index_add_(0, bins, gap)
    return sums.abs().sum().item() / len(labels)
