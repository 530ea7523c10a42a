"""Images to logits: the one forward pass that evaluation and prediction share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wrn.data.normalise import normalise
from wrn.model.precision import Precision

NOT_FINITE = (
    "the network's outputs are not finite, as when its training has diverged; train again with a lower --lr, or give "
    "another --model-dir"
)


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    precision: Precision,
    batch_size: int = 512,
    mirrored: bool = False,
) -> Tensor:
    """Logits, float32 (N, classes) on the model's device, of uint8 images (N, 3, H, W).

    batch_size: most images per pass; passes differ in size by at most one image.

    The model is put into evaluation mode and then restored. With `mirrored` the images are flipped left to right, the
    other half of flip test-time augmentation.
    """
    training = model.training
    model.eval()
    logits = []
    try:
        for chunk in torch.tensor_split(images, max(1, math.ceil(len(images) / batch_size))):
            chunk = chunk.to(precision.device, non_blocking=True)
            if mirrored:
                chunk = chunk.flip(-1)
            inputs = normalise(chunk, mean, std)
            with precision.autocast():
                logits.append(model(inputs).float())
    finally:
        model.train(training)
    return torch.cat(logits)
