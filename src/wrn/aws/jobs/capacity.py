"""Where a job may run, in order: the requested instance, then those of --fallback, then the same on demand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from wrn.aws.account.errors import NoCredentials
from wrn.aws.account.partitions import REGION
from wrn.aws.account.session import Session
from wrn.aws.catalog.prices import SAME_PRICES, Price, bundled_prices
from wrn.aws.jobs.options import DeployOptions
from wrn.errors import AwsError

LONGEST_NAME = 63

_ENTRY = re.compile(rf"(?:({REGION}):)?(?:ml\.)?([a-z][a-z0-9-]*\.[a-z0-9-]+)", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """One combination of region, instance type and spot or on-demand."""

    region: str
    instance_type: str
    spot: bool

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.region}{' (spot)' if self.spot else ''}"


def read_fallback(text: str) -> tuple[tuple[str, str], ...]:
    """(region, instance type) of each entry of `g5.xlarge,us-west-2:ml.g6.xlarge`; the region is empty if it
    is the deployment's. Raises ValueError."""
    entries = []
    for word in text.split(","):
        found = _ENTRY.fullmatch(word.strip())
        if found is None:
            raise ValueError(
                f"has {word.strip()!r}, which is not an instance type; give types as in g5.xlarge,us-west-2:g6.xlarge"
            )
        entries.append((found[1] or "", f"ml.{found[2]}"))
    return tuple(entries)


def choices(options: DeployOptions, fallback: Iterable[tuple[str, str]], *, on_demand: bool) -> tuple[Choice, ...]:
    """All choices in the order in which they are tried, without duplicates.

    on_demand: whether a spot deployment may switch to on-demand instances after all others.
    """
    home = Choice(options.region, options.instance_type, options.spot)
    ordered = [home, *(Choice(region or options.region, kind, options.spot) for region, kind in fallback)]
    if on_demand and options.spot:
        ordered += [replace(choice, spot=False) for choice in ordered]
    return tuple(dict.fromkeys(ordered))


def check_regions(options: DeployOptions, ways: Iterable[Choice]) -> None:
    """Raises AwsError for options tied to one region if other regions may be used."""
    others = sorted({choice.region for choice in ways} - {options.region})
    fixed = {
        "bucket": options.bucket,
        "data_uri": options.data_uri,
        "image_uri": options.image_uri if "/" in options.image_uri else "",
        "vpc_config": options.subnets,
        "kms_key": options.kms_key,
    }
    names = [name for name, value in fixed.items() if value]
    if others and names:
        raise AwsError(
            f"fallback: {', '.join(names)} {'is' if len(names) == 1 else 'are'} only valid in {options.region}; "
            f"leave {', '.join(others)} out of --fallback"
        )


def check_enabled(session: Session, ways: Iterable[Choice]) -> None:
    """Raises AwsError for a region that is not enabled in the session's account.

    Such a region refuses credentials that are valid elsewhere; otherwise this might only show hours later.
    """
    for region in dict.fromkeys(way.region for way in ways if way.region != session.region):
        try:
            _ = session.in_region(region).caller
        except NoCredentials:
            raise AwsError(
                f"fallback: {region} is not enabled in this account, or not for these credentials; enable it, or leave "
                "it out"
            ) from None
        except AwsError:
            continue  # only a convenience check


def options_for(options: DeployOptions, choice: Choice, attempt: int) -> DeployOptions:
    """The options of attempt number `attempt`, from 1: with its own region, instance type and name."""
    dollars, price = _price(options, choice)
    return replace(
        options,
        name=attempt_name(options.name, attempt),
        region=choice.region,
        instance_type=choice.instance_type,
        spot=choice.spot,
        max_wait=options.max_wait if choice.spot else 0,
        price_per_hour=dollars,
        own_price=price,
    )


def _price(options: DeployOptions, choice: Choice) -> tuple[float, Price | None]:
    """The hourly price there: its own, else that of the same type in a region priced alike, else the bundled one."""
    if price := options.prices.get((choice.region, choice.instance_type)):
        return price.usd_per_hour, price
    same = choice.instance_type == options.instance_type
    if same and (choice.region == options.region or {choice.region, options.region} <= SAME_PRICES):
        return options.price_per_hour, options.own_price
    if known := bundled_prices().get(choice.instance_type):
        return known.usd_per_hour, None
    return (options.price_per_hour if same else 0.0), None


def attempt_name(name: str, attempt: int) -> str:
    """`name`, `name-2`, `name-3`, ..., within SageMaker's length limit."""
    if attempt == 1:
        return name
    end = f"-{attempt}"
    return name[: LONGEST_NAME - len(end)].rstrip("-") + end
