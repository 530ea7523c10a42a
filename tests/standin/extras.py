"""What moto lacks of the services around training: quotas and prices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from standin.faults import ACCOUNT, Faults
from standin.validation import check, service_model
from standin.wire import AwsFault, Call

HANDLED = {"service-quotas": ("GetServiceQuota", "ListServiceQuotas"), "pricing": ("GetProducts",)}

PRICES = {"ml.m5.large": 0.115, "ml.g4dn.xlarge": 0.7364, "ml.g5.xlarge": 1.408, "ml.g6.xlarge": 1.1267}
"""US dollars per hour, the same in all regions."""

USAGE = {"us-east-1": "USE1", "us-east-2": "USE2", "us-west-2": "USW2", "eu-west-1": "EUW1", "eu-central-1": "EUC1"}
"""How usage types name a region."""


def handles(call: Call) -> bool:
    if call.service == "service-quotas":
        return call.operation in HANDLED["service-quotas"] and call.request.get("ServiceCode") == "sagemaker"
    return call.operation in HANDLED.get(call.service, ())


def answer(call: Call, faults: Faults) -> Mapping[str, Any]:
    """Raises AwsFault for what AWS would refuse."""
    check(call.service, call.operation, call.request)
    if call.service == "pricing":
        return _products(call.request)
    quotas = _quotas(call.region, faults)
    if call.operation == "GetServiceQuota":
        for quota in quotas:
            if quota["QuotaCode"] == call.request["QuotaCode"]:
                return {"Quota": quota}
        raise AwsFault("NoSuchResourceException", "The specified quota does not exist.")
    return _page(call.request, "Quotas", quotas)


def _page(request: Mapping[str, Any], name: str, entries: list[Any]) -> dict[str, Any]:
    first, many = int(request.get("NextToken", "0")), request.get("MaxResults", 100)
    more = {"NextToken": str(first + many)} if first + many < len(entries) else {}
    return {name: entries[first : first + many], **more}


def _quotas(region: str, faults: Faults) -> list[dict[str, Any]]:
    """Two for each instance type: on demand and spot. The codes are not AWS's."""
    found = []
    for instance in service_model("sagemaker").shape_for("TrainingInstanceType").enum:
        for spot in (False, True):
            name = f"{instance} for {'spot ' * spot}training job usage"
            code = f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"
            found.append(
                {
                    "ServiceCode": "sagemaker",
                    "ServiceName": "Amazon SageMaker",
                    "QuotaArn": f"arn:aws:servicequotas:{region}:{ACCOUNT}:sagemaker/{code}",
                    "QuotaCode": code,
                    "QuotaName": name,
                    "Value": faults.quota_of(instance, spot),
                    "Unit": "None",
                    "Adjustable": True,
                    "GlobalQuota": False,
                }
            )
    return found


def _products(request: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {entry["Field"]: entry["Value"] for entry in request.get("Filters", [])}
    products = []
    for region, short in USAGE.items():
        for instance, dollars in PRICES.items():
            attributes = {
                "servicecode": "AmazonSageMaker",
                "regionCode": region,
                "component": "Training",
                "instanceName": instance,
                "instanceType": instance,
                "usagetype": f"{short}-Train:{instance}",
            }
            if request["ServiceCode"] != "AmazonSageMaker":
                continue
            if any(attributes.get(field) != value for field, value in wanted.items()):
                continue
            dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{dollars:.10f}"}}
            term = {"effectiveDate": "2026-11-01T00:00:00Z", "priceDimensions": {"one": dimension}}
            product = {"productFamily": "ML Instance", "attributes": attributes}
            products.append(json.dumps({"product": product, "terms": {"OnDemand": {"one": term}}}))
    return {"FormatVersion": "aws_v1", **_page(request, "PriceList", products)}
