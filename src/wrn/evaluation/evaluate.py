"""Evaluate a network on a split: each image once, with the same forward pass as prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wrn.data.dataset import Split
from wrn.distributed.processes import Processes
from wrn.evaluation.scores import Scores, score
from wrn.model import Precision, predict_logits

IMAGES_AT_A_TIME, ON_A_GPU = 200, 1000
"""Images between two checks for a signal. WRN-28-10 takes about 7 s for 200 on two CPU cores without bf16, and
torchrun by default kills 30 s after a signal."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of plain evaluation, and those with mirrored test-time augmentation (TTA) if asked for."""

    plain: Scores
    mirrored: Scores | None = None

    @property
    def finite(self) -> bool:
        """False if the network's outputs for some images were not finite: then neither are the means over the split."""
        found = [self.plain] if self.mirrored is None else [self.plain, self.mirrored]
        return all(math.isfinite(scores.loss) and math.isfinite(scores.ece) for scores in found)

    def as_dict(self) -> dict[str, Any]:
        figures = self.plain.as_dict()
        if self.mirrored is not None:
            figures["tta"] = self.mirrored.as_dict()
        return figures


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    precision: Precision,
    superclass_of: Sequence[int] = (),
    tta: bool = False,
    processes: Processes | None = None,
    between: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score the model on the split. With `tta`, also score the mean probabilities of each image and its mirror image.

    Several processes share the images, each of which counts once, and all processes get the scores.
    between: called every few images, equally often in all processes; an exception from it ends the evaluation.
    """
    processes = processes or Processes()
    rows = processes.rows(len(split))
    largest_share = -(-len(split) // processes.place.world_size)
    at_a_time = ON_A_GPU if precision.device.type == "cuda" else IMAGES_AT_A_TIME
    pieces = -(-largest_share // at_a_time)

    def logits(mirrored: bool) -> torch.Tensor:
        found = []
        for images in torch.tensor_split(split.images[rows], pieces):
            found.append(
                predict_logits(
                    model, images, mean=mean, std=std, precision=precision, batch_size=at_a_time, mirrored=mirrored
                )
            )
            between()
        part = torch.cat(found)
        if processes.place.world_size == 1:
            return part
        whole = part.new_zeros(len(split), part.shape[1])
        whole[rows] = part
        return processes.sum_over_all(whole)

    first = logits(mirrored=False)
    plain = score(first, split.labels, superclass_of)
    if not tta:
        return Evaluation(plain)
    # The log of the mean of both probabilities, up to a constant that no score depends on; no underflow.
    both = torch.logaddexp(first.log_softmax(1), logits(mirrored=True).log_softmax(1))
    return Evaluation(plain, score(both, split.labels, superclass_of))
