"""`wrn costs`: which of wrn's resources exist now, and what they cost per hour and per month."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from wrn.aws.account.session import Session
from wrn.aws.resources.inventory import bucket_given, take_inventory
from wrn.aws.resources.resource import Resource
from wrn.aws.resources.storage import GB, USD_PER_GB_MONTH
from wrn.cli.aws_flags import aws_parser, with_session
from wrn.cli.report import table
from wrn.errors import DONE
from wrn.strict_json import to_json

SOURCES = (
    "instances: the price recorded with the job, else the bundled list price for training in us-west-2 (`wrn plan` "
    "shows the sources), also used as an estimate for endpoints; "
    f"S3: ${USD_PER_GB_MONTH} per GB and month (us-east-1); free tiers are not counted"
)


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser("costs", "Show which of wrn's resources cost money now.", "[--bucket B] [--region R] [--json]")
    parser.add_argument(
        "--bucket",
        metavar="B",
        action="append",
        default=[],
        help="also count what is under wrn/ in this bucket of your own; may repeat",
    )
    options = parser.parse_args(arguments)
    return with_session(options, show)


def show(options: Namespace, session: Session) -> int:
    buckets = [bucket_given(name) for name in options.bucket]
    inventory = take_inventory(session, buckets=buckets, logs=False)
    paid = [resource for resource in inventory.resources if resource.monthly != 0 or resource.per_hour != 0]
    if options.json:
        told = {
            "resources": [resource_json(resource) for resource in inventory.resources],
            "usd_per_hour": total([resource.per_hour for resource in paid]),
            "usd_per_month": total([resource.monthly for resource in paid]),
            "notes": [*inventory.notes, SOURCES],
            "not_looked_at": inventory.missed,
        }
        sys.stdout.write(to_json(told, indent=2) + "\n")
    elif paid:
        sys.stdout.write(resource_table(paid) + "\n")
        sys.stderr.write("".join(f"note: {note}\n" for note in [*inventory.notes, SOURCES]))
    else:
        what = "no visible wrn resource costs money" if inventory.missed else "no wrn resource costs money"
        sys.stdout.write(f"{what} in account {session.account}, {session.region}\n")
        sys.stderr.write("".join(f"note: {note}\n" for note in inventory.notes))
    return DONE


def total(amounts: Sequence[float | None]) -> float:
    """The sum of the known amounts."""
    return sum(amount for amount in amounts if amount is not None)


def resource_json(resource: Resource) -> dict[str, Any]:
    return {
        "kind": resource.kind,
        "name": resource.name,
        "detail": resource.detail,
        "bytes": resource.bytes,
        "usd_per_hour": resource.per_hour,
        "usd_per_month": resource.monthly,
    }


def resource_table(resources: Sequence[Resource]) -> str:
    """Kind, name, size and cost per hour and per month of each, and the totals."""
    rows = [("WHAT", "NAME", "SIZE", "$/HOUR", "$/MONTH", "")]
    for resource in resources:
        rows.append(
            (
                resource.kind,
                resource.name,
                size_text(resource.bytes),
                dollars(resource.per_hour),
                dollars(resource.monthly),
                resource.detail,
            )
        )
    hourly = total([resource.per_hour for resource in resources])
    monthly = total([resource.monthly for resource in resources])
    rows.append(("total", "", size_text(sum(r.bytes for r in resources)), dollars(hourly), dollars(monthly), ""))
    return table(rows)


def size_text(size: int) -> str:
    if size >= GB:
        return f"{size / GB:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1000:.1f} kB" if size else ""


def dollars(amount: float | None) -> str:
    """In cents; `<0.01` for less than a cent, empty for nothing."""
    if amount is None:
        return "?"
    return "" if amount == 0 else "<0.01" if amount < 0.01 else f"{amount:.2f}"
