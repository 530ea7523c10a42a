"""Where a job may run, and in which order."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.catalog.images import ACCOUNTS
from wrn.aws.catalog.instances import CATALOGUE
from wrn.aws.jobs.capacity import Choice, attempt_name, check_regions, choices, options_for, read_fallback
from wrn.aws.jobs.options import DeployOptions
from wrn.errors import AwsError

OPTIONS = DeployOptions(name="job", account="111122223333", instance_type="ml.g5.xlarge", price_per_hour=1.4)
ENTRIES = st.lists(st.tuples(st.sampled_from(["", *ACCOUNTS]), st.sampled_from(sorted(CATALOGUE))), min_size=1)


@given(ENTRIES, st.data())
def test_every_list_is_read_as_it_was_meant(entries: list[tuple[str, str]], data: st.DataObject) -> None:
    words = []
    for region, name in entries:
        short = name.removeprefix("ml.") if data.draw(st.booleans()) else name
        words.append(" " * data.draw(st.integers(0, 2)) + (f"{region}:" if region else "") + short)
    assert read_fallback(",".join(words)) == tuple(entries)


@given(st.text())
def test_anything_else_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(name.startswith("ml.") and "." in name[3:] for _, name in read_fallback(text))


@pytest.mark.parametrize("text", ["", "g5", "g5.xlarge,,g6.xlarge", "us-west-2:", "us_west:g5.xlarge", "ml.ml.g5.x y"])
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instance type"):
        read_fallback(text)


@given(ENTRIES, st.booleans(), st.booleans())
def test_the_order(entries: list[tuple[str, str]], spot: bool, on_demand: bool) -> None:
    ways = choices(replace(OPTIONS, spot=spot), entries, on_demand=on_demand)
    assert ways[0] == Choice("us-east-1", "ml.g5.xlarge", spot)
    assert len(set(ways)) == len(ways)
    kinds = [way.spot for way in ways]
    assert kinds == sorted(kinds, reverse=True), "no spot instance after one on demand"
    assert any(not way.spot for way in ways) == (on_demand or not spot)
    wanted = list(dict.fromkeys([("us-east-1", "ml.g5.xlarge"), *((r or "us-east-1", n) for r, n in entries)]))
    assert [(way.region, way.instance_type) for way in ways if way.spot == spot] == wanted


def test_an_attempt() -> None:
    options = replace(OPTIONS, spot=True, max_wait=7200)
    other = options_for(options, Choice("us-west-2", "ml.g6.xlarge", False), 2)
    assert (other.name, other.region, other.instance_type, other.spot) == ("job-2", "us-west-2", "ml.g6.xlarge", False)
    assert (other.price_per_hour, other.max_wait) == (1.127, 0)
    assert options_for(options, Choice("us-west-2", "ml.g5.xlarge", True), 3).price_per_hour == 1.4
    assert options_for(options, Choice("us-east-1", "ml.m5.xlarge", True), 3).price_per_hour == 0.0
    assert attempt_name("a" * 60 + "-bc", 12) == "a" * 60 + "-12"


def test_what_is_of_one_region_alone() -> None:
    ways = choices(OPTIONS, read_fallback("us-west-2:g5.xlarge"), on_demand=False)
    check_regions(OPTIONS, ways)
    check_regions(replace(OPTIONS, bucket="mine"), choices(OPTIONS, read_fallback("g6.xlarge"), on_demand=False))
    with pytest.raises(
        AwsError, match=r"bucket, kms_key are only valid in us-east-1; leave us-west-2 out of --fallback"
    ):
        check_regions(replace(OPTIONS, bucket="mine", kms_key="abc"), ways)
