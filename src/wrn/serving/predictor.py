"""A model directory as a function from pictures to class names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wrn.data.pictures import read_pictures
from wrn.errors import DataError, ModelError
from wrn.kernels import pick_kernels
from wrn.model import NOT_FINITE, load_model, pick_device, pick_precision, predict_logits, tune_cpu

Answer = list[tuple[str, float]]
"""Class names with their probabilities, the most likely first."""


class Predictor:
    """Loads a model directory once and classifies batches of pictures.

    On a CPU it computes with wrn's own kernels, and the whole process keeps the memory that it frees.

    Raises ModelError if the directory cannot be used, or later if an answer is not finite.
    """

    def __init__(self, model_dir: Path, *, device: str = "auto") -> None:
        model, self.info = load_model(model_dir)
        self._model_dir = model_dir
        self._precision = pick_precision(pick_device(device), amp=True)
        tune_cpu()
        model.use_kernels(pick_kernels(self._precision.device))
        self._model = model.to(self._precision.device)

    def predict(self, images: Tensor, top: int = 5) -> list[Answer]:
        """The `top` most likely classes of uint8 images (N, 3, 32, 32)."""
        logits = predict_logits(self._model, images, mean=self.info.mean, std=self.info.std, precision=self._precision)
        if not logits.isfinite().all():
            raise ModelError(f"{self._model_dir}: {NOT_FINITE}")
        chances, labels = logits.softmax(1).topk(min(top, len(self.info.classes)), dim=1)
        return [
            [(self.info.classes[label], chance) for label, chance in zip(row, shares, strict=True)]
            for row, shares in zip(labels.tolist(), chances.tolist(), strict=True)
        ]

    def predict_files(
        self, paths: Sequence[Path], top: int = 5, on_message: Callable[[str], None] | None = None
    ) -> list[Answer | DataError]:
        """The same for picture files: for each its answer, or what is wrong with the file.

        on_message: told every few seconds how many files are read.
        """
        pictures = read_pictures(paths, on_message)
        whole = [picture for picture in pictures if isinstance(picture, Tensor)]
        answers = iter(self.predict(torch.stack(whole), top) if whole else [])
        return [picture if isinstance(picture, DataError) else next(answers) for picture in pictures]
