"""Hourly prices of training instances: from AWS's Price List, or a bundled table with its date and source."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.credentials import boto_session
from wrn.aws.account.errors import explain
from wrn.aws.account.partitions import partition
from wrn.errors import AwsError

BUNDLED_REGION = "us-west-2"

SAME_PRICES = frozenset(("us-east-1", "us-east-2", "us-west-2"))
"""Regions assumed to have the same prices; this was not verified for each type."""

SPOT_SHARE = 0.40
"""Spot cost over on-demand cost, assumed. AWS advertises savings of "up to 90%" and publishes no price in advance."""


@dataclass(frozen=True)
class Source:
    """Where prices come from, and their date: the day they took effect, or the month they were seen."""

    name: str
    date: str


TRAINING = Source("AWS Price List, component Training, in a public copy", "seen 2026-11")
STUDIO = Source("AWS Price List, Studio notebooks (the same as Training on g5 and g6), in a public copy", "2026-09-01")
OLD_LIST = Source("public lists of their time; p3 has left AWS's list for us-west-2", "undated")
README = Source("an old public README (goerlitz/nlp-classification)", "undated")


@dataclass(frozen=True)
class Price:
    """On demand, in US dollars per instance and hour."""

    usd_per_hour: float
    region: str
    source: Source


GIVEN = Source("--price-per-hour", "given")

PRICE_VARIABLE = "WRN_PRICE"
"""In a job's environment: the hourly price of one instance. Without it the bundled price counts."""


def price_text(price: Price) -> str:
    """The form recorded with a job: `1.76 eu-west-1 2026-09-01`, or `given` instead of the day."""
    return f"{price.usd_per_hour} {price.region} {price.source.date}"


def read_price(text: str) -> Price | None:
    """What `price_text` wrote; None for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ([a-z0-9-]+) (.+)", text)
    if found is None:
        return None
    source = GIVEN if found[3] == GIVEN.date else Source("AWS Price List", found[3])
    return Price(float(found[1]), found[2], source)


_BUNDLED: tuple[tuple[Source, dict[str, float]], ...] = (
    (
        TRAINING,
        {
            "ml.g5.xlarge": 1.408,
            "ml.g5.2xlarge": 1.515,
            "ml.g5.4xlarge": 2.03,
            "ml.g5.8xlarge": 3.06,
            "ml.g5.16xlarge": 5.12,
            "ml.g5.12xlarge": 7.09,
            "ml.g5.24xlarge": 10.18,
            "ml.g5.48xlarge": 20.36,
            "ml.g6.xlarge": 1.127,
            "ml.g6.2xlarge": 1.222,
            "ml.g6.4xlarge": 1.654,
            "ml.g6.8xlarge": 2.518,
            "ml.g6.12xlarge": 5.752,
            "ml.g6.24xlarge": 8.344,
            "ml.g6.48xlarge": 16.688,
            # Other lists have 1.86, 2.24 and 10.49 for three of these: EC2's prices, which are not SageMaker's.
            "ml.g6e.xlarge": 2.61,
            "ml.g6e.2xlarge": 2.80,
            "ml.g6e.4xlarge": 3.76,
            "ml.g6e.8xlarge": 5.66,
            "ml.g6e.12xlarge": 13.12,
            "ml.g6e.24xlarge": 18.83,
            "ml.g6e.48xlarge": 37.66,
        },
    ),
    (
        STUDIO,
        {
            "ml.g4dn.xlarge": 0.7364,
            "ml.g4dn.2xlarge": 0.94,
            "ml.g7e.2xlarge": 4.2039,
            "ml.g7e.4xlarge": 4.9977,
            "ml.g7e.8xlarge": 6.5853,
            "ml.g7e.12xlarge": 10.3576,
            "ml.g7e.24xlarge": 20.7152,
            "ml.g7e.48xlarge": 41.4304,
            "ml.p4d.24xlarge": 25.251286,
            "ml.p5.48xlarge": 63.296,
        },
    ),
    (OLD_LIST, {"ml.p3.2xlarge": 3.825, "ml.p3.8xlarge": 14.688, "ml.p3.16xlarge": 28.152}),
    (README, {"ml.g4dn.12xlarge": 4.89}),
)


def bundled_prices() -> dict[str, Price]:
    """The bundled us-west-2 prices by instance type. Types without a known price are not in it."""
    return {
        name: Price(dollars, BUNDLED_REGION, source) for source, table in _BUNDLED for name, dollars in table.items()
    }


def spot_estimate(on_demand: float) -> float:
    """An estimate of the spot cost. The real one follows from BillableTimeInSeconds and TrainingTimeInSeconds."""
    return SPOT_SHARE * on_demand


def live_prices(region: str, client: Any = None, *, profile: str | None = None) -> dict[str, Price]:
    """AWS's Price List for training in a region: at most 45 s, whatever the network does.

    profile: whose credentials to use; None for the environment's. Raises AwsError with the reason if it fails.
    """
    try:
        client = client or _pricing_client(profile, region)
        pages = _pages(client, region)
        prices = parse_price_list(pages, region)
    except AwsError:
        raise
    except Exception as error:
        found = explain(error, "GetProducts")
        raise type(found)(f"prices: AWS's Price List cannot be read: {found}") from None
    if not prices:
        raise AwsError(
            f"prices: AWS's Price List has no training instances in {region} with a price in US dollars; check its name"
        )
    return prices


def _pricing_client(profile: str | None = None, region: str | None = None) -> Any:
    session = boto_session(profile, region)
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
    # It runs in a few regions of each partition, for all of them.
    places = session.get_available_regions("pricing", partition(region)) if region else []
    place = "us-east-1" if "us-east-1" in places or not places else places[0]
    return session.client("pricing", region_name=place, config=config)


def _pages(client: Any, region: str) -> list[str]:
    """The products as AWS sends them: JSON texts, 100 per page."""
    found: list[str] = []
    token: dict[str, str] = {}
    stop = time.monotonic() + 30
    while True:
        answer = client.get_products(
            ServiceCode="AmazonSageMaker",
            Filters=[
                {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
                {"Type": "TERM_MATCH", "Field": "component", "Value": "Training"},
            ],
            **token,
        )
        found += answer["PriceList"]
        if not answer.get("NextToken"):
            return found
        if time.monotonic() > stop:
            raise AwsError("prices: AWS's Price List took more than 30 s; try again")
        token = {"NextToken": answer["NextToken"]}


def parse_price_list(products: Iterable[str | Mapping[str, Any]], region: str) -> dict[str, Price]:
    """On-demand hourly prices by instance type. Of several for one type, the newest counts.

    A product's usage type is USW2-Train:ml.g5.xlarge or the like; anything else (spot, endpoints) is skipped.
    """
    prices: dict[str, Price] = {}
    for product in products:
        content = json.loads(product) if isinstance(product, str) else product
        usage = content.get("product", {}).get("attributes", {}).get("usagetype", "")
        kind, _, name = usage.rpartition(":")
        if not name.startswith("ml.") or kind.rpartition("-")[2] != "Train":
            continue
        for term in content.get("terms", {}).get("OnDemand", {}).values():
            day = str(term.get("effectiveDate", ""))[:10]
            for dimension in term.get("priceDimensions", {}).values():
                dollars = float(dimension.get("pricePerUnit", {}).get("USD", 0))
                if dollars > 0 and (name not in prices or prices[name].source.date < day):
                    prices[name] = Price(dollars, region, Source("AWS Price List", day))
    return prices
