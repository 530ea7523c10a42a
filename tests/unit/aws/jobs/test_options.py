"""How long a job may run: as given, else by what it is expected to take."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrn.aws.catalog.estimate import estimate, expected_times, relative_time
from wrn.aws.jobs.options import (
    DAY,
    HOUR,
    LONGEST_RUN,
    DeployOptions,
    as_flag,
    default_limit,
    holding_limit,
    limits,
)
from wrn.cli.deploy_flags import time_limit
from wrn.config.layers import resolve

TODAY = date(2026, 11, 23)
OPTIONS = DeployOptions(name="j", account="123456789012", instance_type="ml.g5.xlarge", price_per_hour=1.0)


def expecting(seconds: float, **more: object) -> DeployOptions:
    return replace(OPTIONS, expected={"ml.g5.xlarge": seconds}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "limit"),
    [(0, DAY), (1, 2 * HOUR), (1200, 2 * HOUR), (1201, 7260), (3 * HOUR, 18 * HOUR), (4 * HOUR, DAY), (40 * HOUR, DAY)],
)
def test_six_times_the_expected_time_between_two_hours_and_a_day(expected: float, limit: int) -> None:
    assert default_limit(expected) == limit
    assert limits(expecting(expected)).runtime == limit


def test_each_place_has_its_own_limit() -> None:
    expected = {"ml.g5.xlarge": 3600.0, "ml.g4dn.xlarge": 7200.0}
    places = [replace(OPTIONS, instance_type=name, expected=expected) for name in [*expected, "ml.m5.large"]]
    assert [limits(place).runtime for place in places] == [6 * HOUR, 12 * HOUR, DAY]


def test_what_is_given_counts() -> None:
    assert limits(expecting(1200, max_runtime=600)).runtime == 600
    assert limits(expecting(1200, max_runtime=40 * HOUR)).runtime == 40 * HOUR
    # Money for 30 hours buys 30 hours: the default does not shorten a run that was paid for.
    assert limits(expecting(1200, max_cost=30.0)).runtime == 30 * HOUR - 300
    assert limits(expecting(1200, max_cost=1e6)).runtime == LONGEST_RUN
    assert limits(expecting(1200, max_cost=30.0, max_runtime=HOUR)).runtime == HOUR


def test_waiting_for_spot_follows_the_limit() -> None:
    """Waiting is not billed: at least a day of it."""
    assert limits(expecting(1200, spot=True)).wait == 26 * HOUR
    assert limits(expecting(0, spot=True)).wait == 2 * DAY
    assert limits(expecting(0, spot=True, max_runtime=5 * DAY)).wait == 10 * DAY
    assert limits(expecting(1200, spot=False)).wait == 0
    short = limits(expecting(3 * HOUR, spot=True, max_wait=HOUR))
    assert (short.runtime, short.wait) == (HOUR, HOUR), "a default gives way to what was given"


@given(st.floats(1, LONGEST_RUN))
def test_a_suggested_limit_holds_and_can_be_given(expected: float) -> None:
    limit = holding_limit(expected)
    assert expected <= limit <= LONGEST_RUN
    assert time_limit(as_flag(limit)) == limit


def test_what_a_run_is_expected_to_take() -> None:
    config = resolve("strong", {}).config
    place = replace(OPTIONS, instance_type="ml.g6.xlarge")
    alone = estimate(config, OPTIONS, today=TODAY)
    assert alone is not None
    found = expected_times(config, [OPTIONS, place, replace(OPTIONS, instance_type="ml.m5.large")], today=TODAY)
    assert sorted(found) == ["ml.g5.xlarge", "ml.g6.xlarge"]
    assert found["ml.g5.xlarge"] == pytest.approx(alone.hours * HOUR)
    pair = replace(OPTIONS, instance_count=2)
    assert estimate(config, pair, today=TODAY) is None
    assert expected_times(config, [pair], today=TODAY) == {"ml.g5.xlarge": found["ml.g5.xlarge"]}
    folder = config.model_copy(update={"dataset": "folder"})
    assert expected_times(folder, [OPTIONS], today=TODAY) == {}, "of how many images is not known"
    times = relative_time(config, "ml.g6.xlarge", "ml.g5.xlarge", "us-east-1", today=TODAY)
    assert times == pytest.approx(found["ml.g5.xlarge"] / found["ml.g6.xlarge"], rel=0.05)
    assert relative_time(config, "ml.g6.xlarge", "ml.m5.large", "us-east-1", today=TODAY) is None


def test_a_budget_of_minutes_takes_that_long() -> None:
    def hours(**keys: float) -> float:
        found = estimate(resolve(None, keys).config, OPTIONS, today=TODAY)
        assert found is not None
        return found.hours

    recipe = hours()
    assert hours(budget_minutes=600) == pytest.approx(10.05), "as many epochs as fit, however few the recipe has"
    assert hours(budget_minutes=600, budget_epochs=100, epochs=100) == pytest.approx(recipe), "but no more than these"
    assert hours(budget_minutes=6, budget_epochs=100) == pytest.approx(0.15)
