from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
def test_stages_survive_their_text(parts: list[tuple[int, int]]) -> None:
    total = sum(weight for _, weight in parts)
    stages = tuple((side, weight / total) for side, weight in parts)
    assert parse_stages(format_stages(stages)) == stages


@pytest.mark.parametrize("text", ["60 30", "0 5", "-1", "a", "nan", "5 5", "inf"])
def test_bad_milestones(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_milestones(text)
