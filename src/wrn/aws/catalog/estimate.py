"""Estimates for one deployment: time and cost as in `wrn plan`, and how the instance type compares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from wrn.aws.catalog.instances import CATALOGUE
from wrn.aws.catalog.plan import Assumptions, Row, make_plan, mark_frontier
from wrn.aws.catalog.prices import bundled_prices, spot_estimate
from wrn.aws.jobs.options import HOUR, DeployOptions
from wrn.config.schema import Config
from wrn.errors import AwsError
from wrn.text import duration


@dataclass(frozen=True)
class Estimate:
    """hours: billed hours; cost: US dollars, spot or on demand as requested; why: a sentence about the instance type.

    spot: the cost is for spot, whose price is assumed.
    """

    hours: float
    cost: float
    why: str
    fits: bool
    spot: bool = False


def estimate(config: Config, options: DeployOptions, *, today: date) -> Estimate | None:
    """None if nothing is known: several instances, or a type that is not in the catalogue."""
    if options.instance_count > 1 or options.instance_type not in CATALOGUE:
        return None
    if config.budget_minutes and config.budget_epochs:
        config = config.model_copy(update={"epochs": config.budget_epochs})
    try:
        plan = make_plan(config, bundled_prices(), options.region, today=today, image=options.image_uri)
    except AwsError:
        return None
    rows = [_priced(_within_budget(row, config), options) for row in plan.rows]
    if options.instance_type not in {row.instance.name for row in rows}:
        return None
    rows = mark_frontier(rows)  # --price-per-hour may change it
    row = next(row for row in rows if row.instance.name == options.instance_type)
    return Estimate(row.hours, row.cost, _why(row, [other for other in rows if other.usable]), row.usable, options.spot)


def expected_times(config: Config, places: Iterable[DeployOptions], *, today: date) -> dict[str, float]:
    """Seconds by instance type, for the default time limits; without what is unknown or a mere assumption.

    Several instances are expected to take no longer than one.
    """
    if config.dataset == "folder" and not config.train_images:
        return {}  # nobody knows how many images there are
    alone = [replace(place, instance_count=1) for place in places]
    found = {place.instance_type: estimate(config, place, today=today) for place in alone}
    return {name: expected.hours * HOUR for name, expected in found.items() if expected}


def relative_time(config: Config, before: str, after: str, region: str, *, today: date) -> float | None:
    """How many times as long an epoch takes on instance type `after` as on `before`; None if unknown."""
    if before == after:
        return 1.0
    try:
        rows = make_plan(config, bundled_prices(), region, today=today).rows
    except AwsError:
        return None
    seconds = {row.instance.name: row.seconds_per_epoch for row in rows}
    return seconds[after] / seconds[before] if before in seconds and after in seconds else None


def _within_budget(row: Row, config: Config) -> Row:
    """With budget_minutes, as many epochs are trained as fit, so training takes that long; or less, if budget_epochs
    are done before."""
    if not config.budget_minutes:
        return row
    budget = Assumptions.start_minutes / 60 + config.budget_minutes / 60
    return replace(row, hours=min(row.hours, budget) if config.budget_epochs else budget)


def _priced(row: Row, options: DeployOptions) -> Row:
    """The row with the job's cost there: at --price-per-hour for the chosen type, and for spot if requested."""
    chosen = row.instance.name == options.instance_type
    price = (options.price_per_hour if chosen else 0.0) or row.price.usd_per_hour
    cost = row.hours * price
    return replace(row, cost=spot_estimate(cost) if options.spot else cost)


def _why(row: Row, usable: list[Row]) -> str:
    name = row.instance.name
    if not row.usable:
        return f"{name} cannot run this ({'; '.join(row.remarks) or 'too little memory'}); see: wrn plan"
    cheapest, fastest = min(usable, key=lambda other: other.cost), min(usable, key=lambda other: other.hours)
    if row == cheapest:
        return f"{name} is the cheapest that can run this; the fastest is {_short(fastest)}; see: wrn plan"
    if row.on_frontier:
        return f"{name}: nothing else is both as cheap and as fast; the cheapest is {_short(cheapest)}; see: wrn plan"
    return f"{name} is neither the cheapest, {_short(cheapest)}, nor the fastest, {_short(fastest)}; see: wrn plan"


def _short(row: Row) -> str:
    return f"{row.instance.name} at {duration(row.hours * HOUR)} and ${row.cost:.2f}"
