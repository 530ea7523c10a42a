from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.config.schema import OptimizerSection
from wrn.config.stages import format_stages, parse_milestones, parse_stages


def test_stages() -> None:
    assert parse_stages("20:0.35 24:0.4, 32:0.25") == ((20, 0.35), (24, 0.4), (32, 0.25))
    assert parse_stages(" ") == ((32, 1.0),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("20", "SIDE:SHARE"),
        ("a:1", "SIDE:SHARE"),
        ("20:0.5", "sum to 0.5"),
        ("4:1", "8 to 32"),
        ("33:1", "8 to 32"),
        ("8:0 32:1", "above 0"),
    ],
)
def test_bad_stages(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_stages(text)


@given(st.lists(st.tuples(st.integers(8, 32), st.integers(1, 9)), min_size=1, max_size=6))
def test_stages_survive_a_round_trip_through_text(parts: list[tuple[int, int]]) -> None:
    total = sum(weight for _, weight in parts)
    stages = tuple((side, weight / total) for side, weight in parts)
    assert parse_stages(format_stages(stages)) == stages


@pytest.mark.parametrize("text", ["60 30", "0 5", "-1", "a", "nan", "5 5", "inf"])
def test_bad_milestones(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_milestones(text)


@given(st.sets(st.floats(0.001, 1e6), max_size=5))
def test_milestones_survive_a_round_trip_through_text(epochs: set[float]) -> None:
    rising = tuple(sorted(epochs))
    kept = OptimizerSection(milestones=list(rising)).milestones
    assert parse_milestones(kept) == rising
    assert OptimizerSection(milestones=kept).milestones == kept


HALF_WORDS = st.lists(st.sampled_from([*"0123456789:.,- ", "nan", "inf", "e9", "20:", "0.5"]), max_size=8).map("".join)


@pytest.mark.parametrize("parse", [parse_stages, parse_milestones])
@given(text=st.one_of(HALF_WORDS, st.text(max_size=20)))
def test_any_text_is_parsed_or_refused_with_our_own_message(parse: Callable[[str], Any], text: str) -> None:
    try:
        found = parse(text)
    except ValueError as error:
        assert re.search("must be|must sum to 1|is not SIDE:SHARE", str(error))  # noqa: PT017
        return
    assert parse is parse_milestones or (found and math.isclose(sum(share for _, share in found), 1, abs_tol=1e-6))
