from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from wrn.aws.catalog import prices
from wrn.aws.catalog.instances import CATALOGUE
from wrn.aws.catalog.prices import bundled_prices, live_prices, parse_price_list, spot_estimate
from wrn.errors import AwsError


def product(usage: str, dollars: str, day: str = "2026-11-01T00:00:00Z") -> str:
    """A product of the Price List, in the form that AWS sends."""
    return json.dumps(
        {
            "product": {"productFamily": "ML Instance", "attributes": {"usagetype": usage, "regionCode": "us-west-2"}},
            "terms": {
                "OnDemand": {
                    "X.Y": {
                        "effectiveDate": day,
                        "priceDimensions": {"X.Y.Z": {"unit": "Hrs", "pricePerUnit": {"USD": dollars}}},
                    }
                }
            },
        }
    )


class FakeClient:
    """Answers like the pricing service, one page at a time."""

    def __init__(self, *pages: list[str]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def get_products(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        page = int(request.get("NextToken", "0"))
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {}
        return {"PriceList": self.pages[page], **more}


def test_bundled_prices() -> None:
    table = bundled_prices()
    assert table["ml.g5.2xlarge"].usd_per_hour == 1.515
    assert table["ml.g6e.xlarge"].usd_per_hour == 2.61
    assert table["ml.p5.48xlarge"].usd_per_hour == 63.296
    assert "ml.p4de.24xlarge" not in table
    assert set(table) <= set(CATALOGUE)
    assert all(price.source.name and price.source.date and price.region == "us-west-2" for price in table.values())


def test_no_type_is_priced_twice() -> None:
    names = [name for _, table in prices._BUNDLED for name in table]
    assert len(names) == len(set(names))


def test_the_spot_estimate_is_a_share() -> None:
    assert spot_estimate(10) == pytest.approx(4)


def test_only_training_on_demand_counts() -> None:
    found = parse_price_list(
        [
            product("USW2-Train:ml.g5.xlarge", "1.4080000000"),
            product("USW2-Host:ml.g5.xlarge", "1.5"),
            product("USW2-SpotTrain:ml.g5.xlarge", "0.5"),
            product("USW2-Train:VolumeUsage.gp2", "0.14"),
            product("USW2-Train:ml.g6.xlarge", "0.0"),
        ],
        "us-west-2",
    )
    assert {name: price.usd_per_hour for name, price in found.items()} == {"ml.g5.xlarge": 1.408}
    assert found["ml.g5.xlarge"].source.date == "2026-11-01"
    assert found["ml.g5.xlarge"].region == "us-west-2"


@pytest.mark.parametrize("newest_last", [True, False])
def test_the_newest_price_counts(newest_last: bool) -> None:
    both = [product("Train:ml.g5.xlarge", "1", "2025-01-01"), product("Train:ml.g5.xlarge", "2", "2026-01-01")]
    found = parse_price_list(both if newest_last else both[::-1], "us-east-1")
    assert found["ml.g5.xlarge"].usd_per_hour == 2


def test_all_pages_are_read() -> None:
    client = FakeClient([product("USE1-Train:ml.g5.xlarge", "1.408")], [product("USE1-Train:ml.g6.xlarge", "1.127")])
    assert set(live_prices("us-east-1", client)) == {"ml.g5.xlarge", "ml.g6.xlarge"}
    assert [request.get("NextToken") for request in client.asked] == [None, "1"]
    assert {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"} in client.asked[0]["Filters"]


def test_the_request_is_one_that_the_service_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    from botocore.stub import Stubber

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    client = prices._pricing_client()
    with Stubber(client) as stub:
        stub.add_response("get_products", {"PriceList": [product("USE1-Train:ml.g5.xlarge", "1.408")]})
        assert live_prices("us-east-1", client)["ml.g5.xlarge"].usd_per_hour == 1.408


def test_an_empty_answer_is_a_sentence() -> None:
    with pytest.raises(AwsError, match=r"has no training instances in mars-1 .* US dollars"):
        live_prices("mars-1", FakeClient([]))


def test_a_failure_of_boto_is_a_sentence() -> None:
    no_credentials = type("NoCredentialsError", (Exception,), {"__module__": "botocore.exceptions"})

    class Refusing:
        def get_products(self, **_: Any) -> None:
            raise no_credentials("Unable to locate credentials")

    with pytest.raises(AwsError, match=r"cannot be read: GetProducts: no usable AWS credentials \(Unable to locate"):
        live_prices("us-east-1", Refusing())


def test_a_bug_stays_a_bug() -> None:
    class Broken:
        def get_products(self, **_: Any) -> None:
            raise KeyError("PriceList")

    with pytest.raises(KeyError):
        live_prices("us-east-1", Broken())


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(AwsError, match="boto3 is not installed"):
        live_prices("us-east-1")
