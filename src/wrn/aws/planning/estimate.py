"""Estimates for one deployment: time and cost as in `wrn plan`, and how the instance type compares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from wrn.aws.instances import CATALOGUE
from wrn.aws.options import HOUR, DeployOptions, span
from wrn.aws.planning.plan import Row, make_plan, mark_frontier
from wrn.aws.prices import bundled_prices, spot_estimate
from wrn.config.schema import Config
from wrn.errors import AwsError


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
    try:
        plan = make_plan(config, bundled_prices(), options.region, today=today, image=options.image_uri)
    except AwsError:
        return None
    rows = [_priced(row, options) for row in plan.rows]
    if options.instance_type not in {row.instance.name for row in rows}:
        return None
    rows = mark_frontier(rows)  # --price-per-hour may change it
    row = next(row for row in rows if row.instance.name == options.instance_type)
    return Estimate(row.hours, row.cost, _why(row, [other for other in rows if other.usable]), row.usable, options.spot)


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
    return f"{row.instance.name} at {span(row.hours * HOUR)} and ${row.cost:.2f}"
