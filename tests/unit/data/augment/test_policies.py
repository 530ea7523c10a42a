from __future__ import annotations

import numpy as np
import pytest
import torch

from wrn.data.augment import policies
from wrn.data.augment.policies import LEVELS, RAND, WIDE, rand_augment, trivial_augment_wide
from wrn.data.random import BatchRandom, generator


def rng(size: int, step: int = 0, rows: slice = slice(None)) -> BatchRandom:
    return BatchRandom(generator(0, "test", step), size, rows=rows)


def test_the_wide_space_is_the_published_one() -> None:
    assert list(WIDE) == [
        *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "colour"),
        *("contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
    ]
    ends = {name: (op.magnitudes[0], op.magnitudes[-1]) for name, op in WIDE.items()}
    assert ends["shear_x"] == (0, 0.99)
    assert ends["rotate"] == (0, 135)
    assert ends["brightness"] == (0, 0.99)
    assert ends["posterize"] == (8, 2)
    assert ends["solarize"] == (255, 0)
    assert ends["translate_x"] == (0, 1)
    assert ends["equalize"] == (0, 0)
    assert all(len(op.magnitudes) == LEVELS for op in WIDE.values())
    assert RAND["rotate"].magnitudes[-1] == 30


def test_all_operations_are_equally_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    strengths: list[float] = []

    def counting(name: str) -> policies.Operation:
        def apply(images: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
            counts[name] = len(images)
            strengths.extend(magnitude.tolist())
            return images

        return policies.Operation(apply, tuple(float(level) for level in range(LEVELS)), signed=True)

    monkeypatch.setattr(policies, "WIDE", {name: counting(name) for name in WIDE})
    trivial_augment_wide(torch.zeros(14_000, 3, 2, 2, dtype=torch.uint8), rng(14_000))
    assert set(counts) == set(WIDE)
    assert all(850 < count < 1150 for count in counts.values())
    assert set(strengths) == set(range(-30, 31))


def test_images_get_operations_of_their_own() -> None:
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    result = trivial_augment_wide(image.expand(200, 3, 32, 32), rng(200))
    assert result.dtype is torch.uint8
    assert len({r.numpy().tobytes() for r in result.contiguous()}) > 100


@pytest.mark.parametrize("side", [32, 16])
def test_a_process_sees_its_rows_of_the_whole_batch(side: int) -> None:
    images = torch.randint(0, 256, (12, 3, side, side), dtype=torch.uint8)
    rows = slice(4, 10)
    for policy in (trivial_augment_wide, lambda i, r: rand_augment(i, 2, 14, r)):
        whole = policy(images, rng(12))
        assert torch.equal(whole[rows], policy(images[rows], rng(12, rows=rows)))
        assert torch.equal(whole, policy(images, rng(12)))


@pytest.mark.parametrize("name", list(WIDE))
def test_every_operation_is_a_function_of_the_image_alone(name: str) -> None:
    """Whatever images share its call, each comes out as if it were the only one."""
    images = torch.randint(0, 256, (6, 3, 20, 20), dtype=torch.uint8)
    alone = {name: WIDE[name]}
    levels, chosen = np.array([0, 5, 10, 20, 29, 30]), np.zeros(6, dtype=int)
    one_by_one = [
        policies._apply(alone, images[i : i + 1], chosen[:1], levels[i : i + 1], rng(6, rows=slice(i, i + 1)))
        for i in range(6)
    ]
    assert torch.equal(policies._apply(alone, images, chosen, levels, rng(6)), torch.cat(one_by_one))


def test_rand_augment_at_level_0_hardly_changes_anything() -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    gentle, strong = (rand_augment(images, 1, level, rng(64)) for level in (0, 30))
    unchanged = [(result == images).flatten(1).all(1).float().mean().item() for result in (gentle, strong)]
    assert unchanged[0] > 0.7
    assert unchanged[1] < 0.25


@pytest.mark.gpu
@pytest.mark.parametrize("name", WIDE)
def test_an_operation_on_a_gpu_gives_the_bytes_of_the_cpu(name: str) -> None:
    """Arithmetic is integer or exact in its dtype, except that enhancements may round one value in a thousand."""
    operation = WIDE[name]
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (LEVELS, 3, 32, 32), dtype=torch.uint8, generator=draws)
    images = images.contiguous(memory_format=torch.channels_last)
    parameter = torch.from_numpy(operation.parameter(np.array(operation.magnitudes), 32))
    here = operation.apply(images, parameter)
    there = operation.apply(images.cuda(), parameter.cuda()).cpu()
    assert (here.int() - there.int()).abs().max() <= 1
    assert (here != there).float().mean() < 1e-3


def test_rand_augment_s_space_is_the_published_one() -> None:
    ends = {name: (op.magnitudes[0], op.magnitudes[-1]) for name, op in RAND.items()}
    assert list(RAND) == list(WIDE)
    assert ends["shear_x"] == ends["shear_y"] == (0, 0.3)
    assert ends["translate_x"] == ends["translate_y"] == (0, pytest.approx(150 / 331))
    assert all(ends[name] == (0, 0.9) for name in ("brightness", "colour", "contrast", "sharpness"))
    assert (ends["rotate"], ends["posterize"], ends["solarize"]) == ((0, 30), (8, 4), (255, 0))
