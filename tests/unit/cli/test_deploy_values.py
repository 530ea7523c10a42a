"""The values of `wrn deploy`'s flags: any text is one in range, or refused with the sentence that the flag ends in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wrn.aws.account.notifications import read_target
from wrn.aws.jobs.capacity import read_fallback
from wrn.cli.deploy_flags import account, dollars, duration, minutes, moments, network, read_tags, region, whole

READERS: dict[Callable[[str], Any], Callable[[Any], Any]] = {
    duration: lambda seconds: 0 <= seconds < math.inf,
    minutes: lambda seconds: 0 <= seconds < math.inf,
    moments: all,
    dollars: lambda value: 0 < value < math.inf,
    whole: lambda number: number > 0,
    account: lambda digits: len(digits) == 12,
    region: lambda name: name.count("-") >= 2,
    network: all,
    read_tags: lambda tags: all(key and key == key.strip() for key in tags),
    read_fallback: lambda places: all(instance.startswith("ml.") for _, instance in places),
    read_target: bool,
}
HALF_WORDS = st.lists(
    st.sampled_from([*"0123456789.-,:=$@ smhd", "ml.", "g5.xlarge", "us-west-2", "subnet-a", "sg-b", "k=v", "٣", "²"]),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(text=st.one_of(HALF_WORDS, st.text(max_size=20), st.integers().map(str), st.floats().map(str)))
@example(text="9" * 400)
def test_any_text_is_a_value_or_refused(read: Callable[[str], Any], text: str) -> None:
    try:
        value = read(text)
    except ValueError as error:
        assert not str(error).startswith(("invalid", "could not", "not enough"))  # noqa: PT017 - Python's own words
        return
    assert READERS[read](value)


@given(st.integers(0, 10**6), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_time_is_its_number_of_units(number: int, unit: tuple[str, int]) -> None:
    name, seconds = unit
    assert duration(f" {number}{name} ") == number * seconds
    assert minutes(f"{number}{name}") == number * (seconds if name else 60)


@given(st.integers(1, 10**8))
def test_an_amount_survives_its_text(cents: int) -> None:
    assert dollars(f"${cents / 100:.2f}") == cents / 100
