"""What to expect of one deployment: time and money by the arithmetic of `wrn plan`, and how the instance compares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from wrn.aws.instances import CATALOGUE
from wrn.aws.options import HOUR, DeployOptions, span
from wrn.aws.planning.plan import Row, make_plan
from wrn.aws.prices import SPOT_SHARE, bundled_prices
from wrn.config.schema import Config
from wrn.errors import AwsError


@dataclass(frozen=True)
class Estimate:
    """hours: what is billed; cost in US dollars, spot or on demand as asked for; why: a sentence on the instance."""

    hours: float
    cost: float
    why: str
    fits: bool


def estimate(config: Config, options: DeployOptions, *, today: date) -> Estimate | None:
    """None where nothing is known: an instance type without a GPU that we know, or several of them."""
    if options.instance_count > 1 or options.instance_type not in CATALOGUE:
        return None
    try:
        plan = make_plan(config, bundled_prices(), options.region, today=today, image=options.image_uri)
    except AwsError:
        return None
    row = next((row for row in plan.rows if row.instance.name == options.instance_type), None)
    if row is None:
        return None
    price = options.price_per_hour or row.price.usd_per_hour
    cost = row.hours * price * (SPOT_SHARE if options.spot else 1.0)
    return Estimate(row.hours, cost, _why(row, [other for other in plan.rows if other.usable]), row.usable)


def _why(row: Row, usable: list[Row]) -> str:
    name = row.instance.name
    if not row.usable:
        return f"{name} cannot run this ({'; '.join(row.remarks) or 'too little memory'}); see: wrn plan"
    cheapest, quickest = min(usable, key=lambda other: other.cost), min(usable, key=lambda other: other.hours)
    if row == cheapest:
        return f"{name} is the cheapest that can run this; the quickest is {_short(quickest)}; see: wrn plan"
    if row.on_frontier:
        return f"{name}: nothing else is both as cheap and as quick; the cheapest is {_short(cheapest)}; see: wrn plan"
    return f"{name} is neither the cheapest, {_short(cheapest)}, nor the quickest, {_short(quickest)}; see: wrn plan"


def _short(row: Row) -> str:
    return f"{row.instance.name} with {span(row.hours * HOUR)} and ${row.cost:.2f}"
