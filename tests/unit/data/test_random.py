from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wrn.data.random import BatchRandom, generator, packed, unpacked


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31))
def test_the_same_position_gives_the_same_numbers(seed: int, position: int) -> None:
    assert generator(seed, "x", position).random() == generator(seed, "x", position).random()


def test_seed_purpose_and_position_all_matter() -> None:
    places = [(0, "order", 0), (1, "order", 0), (0, "augment", 0), (0, "order", 1)]
    assert len({generator(*place).random() for place in places}) == 4


@pytest.mark.parametrize("rows", [slice(0, 3), slice(3, 8), slice(8, 8)])
def test_rows_are_cut_from_the_numbers_of_the_whole_batch(rows: slice) -> None:
    whole, part = (BatchRandom(generator(1, "a", 2), 8, rows=cut) for cut in (slice(None), rows))
    for draw in (
        lambda r: r.uniform(-1, 2, (3,)),
        lambda r: r.integers(-4, 5),
        lambda r: r.chance(0.3),
        lambda r: r.beta(0.2),
    ):
        assert torch.equal(draw(whole)[rows], draw(part))


def test_ranges_types_and_frequencies() -> None:
    rng = BatchRandom(generator(0, "a"), 20_000)
    uniform, integers, chance, beta = rng.uniform(2, 3), rng.integers(-1, 2), rng.chance(0.25), rng.beta(1.0)
    assert (uniform.dtype, integers.dtype, chance.dtype) == (torch.float32, torch.int64, torch.bool)
    assert uniform.min() >= 2
    assert uniform.max() <= 3
    assert integers.unique().tolist() == [-1, 0, 1]
    assert chance.float().mean().item() == pytest.approx(0.25, abs=0.015)
    assert beta.mean().item() == pytest.approx(0.5, abs=0.015)
    assert beta.var().item() == pytest.approx(1 / 12, abs=0.005)


@given(
    st.lists(
        st.tuples(st.sampled_from(["int64", "int32", "float32", "uint8"]), st.integers(1, 5)), min_size=1, max_size=5
    )
)
def test_arrays_survive_a_joint_transfer(kinds: list[tuple[str, int]]) -> None:
    arrays = [np.arange(2 * rows, dtype=kind).reshape(rows, 2) for kind, rows in kinds]
    together = unpacked(torch.from_numpy(packed(arrays)), arrays)
    for values, tensor in zip(arrays, together, strict=True):
        assert torch.equal(torch.from_numpy(values), tensor)
        assert tensor.dtype == torch.from_numpy(values).dtype


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_beta_has_both_its_parameters(alpha: float) -> None:
    beta = BatchRandom(generator(0, "a"), 20_000).beta(alpha)
    assert beta.mean().item() == pytest.approx(0.5, abs=0.015)
    assert beta.var().item() == pytest.approx(1 / (8 * alpha + 4), rel=0.05)
