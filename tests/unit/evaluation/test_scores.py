from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wrn.evaluation.scores import expected_calibration_error, score


def test_literals() -> None:
    # Six classes: class 0 right, class 1 second, class 2 last.
    logits = torch.tensor([[9.0, 1, 2, 3, 4, 5], [9.0, 8, 1, 2, 3, 4], [9.0, 8, 1, 6, 5, 4]])
    scores = score(logits, torch.tensor([0, 1, 2]), superclass_of=(0, 0, 1, 1, 2, 2))
    assert scores.top1 == pytest.approx(1 / 3)
    assert scores.top5 == pytest.approx(2 / 3)
    assert scores.superclass == pytest.approx(2 / 3)
    assert scores.per_class == (1.0, 0.0, 0.0, None, None, None)
    assert scores.images == 3
    rows = zip(logits.numpy(), (0, 1, 2), strict=True)
    expected = np.mean([-np.log(np.exp(row[i]) / np.exp(row).sum()) for row, i in rows])
    assert scores.loss == pytest.approx(float(expected), rel=1e-5)


def test_fewer_classes_than_five_and_no_superclasses() -> None:
    scores = score(torch.eye(3), torch.tensor([0, 1, 0]))
    assert (scores.top1, scores.top5, scores.superclass) == (pytest.approx(2 / 3), 1.0, None)
    assert "superclass" not in scores.as_dict()


def test_calibration_of_a_confident_and_half_right_model() -> None:
    logits = torch.tensor([[100.0, 0.0], [100.0, 0.0]])
    assert expected_calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0.5)
    assert expected_calibration_error(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])) == pytest.approx(0.0)


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 2**31))
def test_against_a_loop_over_images(images: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    scores = score(torch.from_numpy(logits), torch.from_numpy(labels))
    top5 = np.mean([label in np.argsort(-row)[:5] for row, label in zip(logits, labels, strict=True)])
    assert scores.top1 == pytest.approx(np.mean(logits.argmax(1) == labels))
    assert scores.top5 == pytest.approx(top5)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, hit = chances.max(1), chances.argmax(1) == labels
    error = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert scores.ece == pytest.approx(error, abs=1e-5)
