"""`wrn plan`: time and cost of a run on each SageMaker instance type. Needs no account, no network, no torch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from wrn.aws.account.session import configured_region
from wrn.aws.catalog import workload
from wrn.aws.catalog.images import ACCOUNTS, registry
from wrn.aws.catalog.instances import Mfu
from wrn.aws.catalog.plan import Assumptions, LeftOut, Plan, Row, foreign_prices, make_plan, within
from wrn.aws.catalog.prices import BUNDLED_REGION, SPOT_SHARE, Price, bundled_prices, live_prices
from wrn.aws.jobs.options import HOUR, LIMIT_FACTOR, LONGEST_LIMIT, SHORTEST_LIMIT, default_limit
from wrn.cli.dataset_size import with_dataset_size
from wrn.cli.report import table
from wrn.cli.values import dollars, hours, share
from wrn.config.flags import Parser, add_config_flags, hyphenated, parse_config
from wrn.config.schema import Config
from wrn.errors import DONE, AwsError
from wrn.strict_json import to_json
from wrn.text import duration
from wrn.wrapping import hanging

HEADINGS = ("", "instance", "GPUs", "GiB", "fits", "s/epoch", "hours", "cost", "spot ~")
RIGHT = {"GiB", "fits", "s/epoch", "hours", "cost", "spot ~"}
EXTRA = ("GiB", "fits", "s/epoch", "GPUs", "spot ~")
"""Columns that a narrow terminal drops, in this order."""


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="wrn plan",
        description="Time and cost of a run on each SageMaker instance type, cheapest first. * marks the Pareto "
        "frontier: nothing else is both as cheap and as fast. - marks types that cannot run it. Sends nothing to AWS, "
        "except with --live a request for prices.",
        allow_abbrev=False,
        usage="wrn plan [--recipe NAME|FILE] [--max-hours H] [--max-cost C] [--region R] [--KEY VALUE ...]",
    )
    group = parser.add_argument_group("Plan")
    group.add_argument("--max-hours", type=hours, metavar="H", help="only types that finish within H hours")
    group.add_argument(
        "--max-cost", type=dollars, metavar="C", help="only types that cost at most C US dollars on demand"
    )
    group.add_argument(
        "--region", type=known_region, metavar="R", help=f"AWS region [$AWS_REGION, the profile's, or {BUNDLED_REGION}]"
    )
    group.add_argument("--live", action="store_true", help="today's prices from AWS's Price List (needs credentials)")
    group.add_argument("--profile", metavar="P", help="AWS profile to use [$AWS_PROFILE, then the default]")
    group.add_argument("--mfu", type=share, metavar="M", help="the MFU you expect on every GPU, such as 0.4")
    group.add_argument("--image", default="", metavar="V|URI", help="version of AWS's image, or the URI of any image")
    group.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_config_flags(parser)
    arguments = [hyphenated(argument) for argument in arguments]
    resolved = parse_config(parser, arguments)
    config, size_notes = with_dataset_size(resolved.config)
    options, _ = parser.parse_known_args(arguments)

    region = options.region or known_region(configured_region(options.profile) or BUNDLED_REGION)
    prices, notes = prices_of(region, live=options.live, profile=options.profile)
    assumptions = Assumptions(mfu=Mfu(options.mfu, False, "given as --mfu") if options.mfu else None)
    plan = make_plan(config, prices, region, today=date.today(), assumptions=assumptions, image=options.image)
    rows = within(plan.rows, max_hours=options.max_hours, max_cost=options.max_cost)
    if foreign_prices(rows, region):
        notes.append(f"these are prices of {BUNDLED_REGION}; those of {region} may differ: --live asks AWS")
    notes += [*resolved.changes, *size_notes]
    if config.budget_minutes:
        notes.append(f"budget_minutes sets the epochs during training; this plan is for {config.epochs} epochs")
    nothing = "" if rows else nothing_left(plan.rows, options.max_hours, options.max_cost)
    if options.json:
        notes += [nothing] if nothing else []
        sys.stdout.write(to_json(as_json(config, region, rows, plan, assumptions, notes), indent=2) + "\n")
    if nothing:
        raise AwsError(nothing)
    if options.json:
        return DONE
    below = [*explanations(rows, assumptions), *details(rows), *left_out_lines(plan.left_out), *notes]
    above = [hanging(title(config, region)), "", figures(rows, shutil.get_terminal_size().columns), ""]
    sys.stdout.write("\n".join([*above, *map(hanging, below)]) + "\n")
    return DONE


def known_region(text: str) -> str:
    """The region, if there are training images for it. Raises AwsError with the nearest name."""
    if text not in ACCOUNTS:
        registry(text)
    return text


def prices_of(region: str, *, live: bool, profile: str | None) -> tuple[dict[str, Price], list[str]]:
    """Prices, and notes about them."""
    if not live:
        return bundled_prices(), []
    try:
        return live_prices(region, profile=profile), []
    except AwsError as error:
        return bundled_prices(), [f"{error}; these are the bundled prices"]


def title(config: Config, region: str) -> str:
    total = config.epochs * workload.epoch_flop(config)
    side = f" at {config.resolutions}" if config.resolutions else ""
    sam = ", SAM's two passes" if config.sam_rho else ""
    return (
        f"WRN-{config.depth}-{config.widen_factor}, {config.epochs} epochs of {workload.train_images(config):,} images"
        f"{side}{sam}: {total / 1e15:,.1f} PFLOP of training, on one SageMaker instance in {region}"
    )


def figures(rows: Sequence[Row], columns: int) -> str:
    """The table with its headings, figures right-aligned, without the EXTRA columns that do not fit the terminal."""
    lines = [HEADINGS, *(_line(row) for row in rows)]
    widths = {name: max(map(len, column)) for name, *column in zip(HEADINGS, *lines, strict=True)}
    for name in EXTRA:
        if sum(widths.values()) + 2 * (len(widths) - 1) > columns:
            del widths[name]
    kept = [[(name, cell) for name, cell in zip(HEADINGS, line, strict=True) if name in widths] for line in lines]
    return table([[cell.rjust(widths[name]) if name in RIGHT else cell for name, cell in line] for line in kept])


def _line(row: Row) -> tuple[str, ...]:
    return (
        "*" if row.on_frontier else "" if row.usable else "-",
        row.instance.name,
        f"{row.instance.gpus} x {row.instance.gpu.name}",
        str(row.instance.gpu.memory_gib),
        "no" if row.at_a_time is None else str(row.at_a_time),
        f"{row.seconds_per_epoch:.1f}",
        f"{row.hours:.2f}",
        f"${row.cost:.2f}",
        f"${row.spot_cost:.2f}",
    )


def explanations(rows: Sequence[Row], assumptions: Assumptions) -> list[str]:
    """The assumptions behind the figures."""
    mfus: dict[Mfu, list[str]] = {}
    for row in rows:
        names = mfus.setdefault(row.mfu, [])
        names += [] if row.instance.gpu.name in names else [row.instance.gpu.name]
    lines = [
        f"MFU {mfu.share:.0%} on {', '.join(sorted(names))}: {'measured, ' if mfu.measured else ''}{mfu.source}"
        for mfu, names in mfus.items()
    ]
    lines.append("GiB: memory per GPU; fits: images per pass on each; cost: on demand; spot ~: approximate spot cost")
    lines.append(
        f"assumed, not measured: {assumptions.start_minutes:g} min to start; several GPUs reach "
        f"{assumptions.scaling_nvlink:.0%} of linear scaling over NVLink and {assumptions.scaling_pcie:.0%} over PCIe; "
        f"at least {assumptions.pass_milliseconds:g} ms per pass; what fits in memory; "
        f"spot costs {SPOT_SHARE:.0%} of on demand, not counting time lost to interruptions"
    )
    lines.append(
        f"wrn deploy stops a job after {LIMIT_FACTOR} times these hours, but not before {duration(SHORTEST_LIMIT)} and "
        f"no later than {duration(LONGEST_LIMIT)}, unless --max-runtime or --max-cost is given; wrn resume continues it"
    )
    return lines


def details(rows: Sequence[Row]) -> list[str]:
    """What rows have in common, said once: remarks, images, and where the prices come from."""
    remarks = by_type(rows, lambda row: "; ".join([*([] if row.at_a_time else ["too little memory"]), *row.remarks]))
    lines = [f"note on {which}: {remark}" for remark, which in remarks.items() if remark]
    lines += [f"image for {which}: {label}" for label, which in by_type(rows, lambda row: row.image.label).items()]
    prices = by_type(rows, lambda row: f"{row.price.source.name}, {row.price.region}, {row.price.source.date}")
    return lines + [f"prices for {which}: {source}" for source, which in prices.items()]


def by_type(rows: Sequence[Row], describe: Callable[[Row], str]) -> dict[str, str]:
    """Each description with the instance types it applies to; a family's name stands for all of its types."""
    families: dict[str, set[str]] = {}
    for row in rows:
        families.setdefault(_family(row), set()).add(describe(row))
    names: dict[str, set[str]] = {}
    for row in rows:
        name = _family(row) if len(families[_family(row)]) == 1 else row.instance.name
        names.setdefault(describe(row), set()).add(name)
    return {description: ", ".join(sorted(which)) for description, which in names.items()}


def _family(row: Row) -> str:
    return row.instance.name.rpartition(".")[0]


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for item in left_out:
        reasons.setdefault(item.reason, []).append(item.name)
    return [f"left out: {', '.join(names)} ({reason})" for reason, names in reasons.items()]


def nothing_left(rows: Sequence[Row], max_hours: float | None, max_cost: float | None) -> str:
    """Which limit to raise, and to what."""
    usable = [row for row in rows if row.usable]
    if not usable:
        return "no instance type with a known price can train this; lower batch_size or micro_batch"
    cheapest, fastest = min(usable, key=lambda row: row.cost), min(usable, key=lambda row: row.hours)
    limits = [f"--max-hours {max_hours:g}"] if max_hours else []
    limits += [f"--max-cost {max_cost:g}"] if max_cost else []
    return (
        f"nothing is within {' and '.join(limits)}; the cheapest is {cheapest.instance.name} at "
        f"{cheapest.hours:.2f} h and ${cheapest.cost:.2f}, the fastest {fastest.instance.name} at "
        f"{fastest.hours:.2f} h and ${fastest.cost:.2f}"
    )


def as_json(
    config: Config, region: str, rows: Sequence[Row], plan: Plan, assumptions: Assumptions, notes: Sequence[str]
) -> dict[str, Any]:
    return {
        "region": region,
        "network": f"WRN-{config.depth}-{config.widen_factor}",
        "epochs": config.epochs,
        "multiply_adds": workload.multiply_adds(config),
        "training_flop": config.epochs * workload.epoch_flop(config),
        "assumed": {
            "start_minutes": assumptions.start_minutes,
            "scaling_nvlink": assumptions.scaling_nvlink,
            "scaling_pcie": assumptions.scaling_pcie,
            "pass_milliseconds": assumptions.pass_milliseconds,
            "usable_memory": assumptions.usable_memory,
            "spot_share": SPOT_SHARE,
        },
        "rows": [_json_row(row) for row in rows],
        "left_out": [{"instance": item.name, "reason": item.reason} for item in plan.left_out],
        "notes": list(notes),
    }


def _json_row(row: Row) -> dict[str, Any]:
    end = row.image.end_of_patch
    return {
        "instance": row.instance.name,
        "gpu": row.instance.gpu.name,
        "gpus": row.instance.gpus,
        "gpus_used": row.gpus_used,
        "gpu_memory_gib": row.instance.gpu.memory_gib,
        "vcpus": row.instance.vcpus,
        "ram_gib": row.instance.ram_gib,
        "fits": row.at_a_time is not None,
        "images_at_a_time": row.at_a_time,
        "memory_needed_gib": round(row.memory_gib, 2),
        "seconds_per_epoch": row.seconds_per_epoch,
        "hours": row.hours,
        "default_max_runtime_hours": default_limit(row.hours * HOUR) / HOUR,
        "on_demand_usd": row.cost,
        "spot_usd_estimate": row.spot_cost,
        "usd_per_hour": row.price.usd_per_hour,
        "price_source": row.price.source.name,
        "price_date": row.price.source.date,
        "price_region": row.price.region,
        "mfu": row.mfu.share,
        "mfu_measured": row.mfu.measured,
        "mfu_source": row.mfu.source,
        "image": row.image.uri,
        "image_end_of_patch": end.isoformat() if end else None,
        "offered": row.offered,
        "frontier": row.on_frontier,
        "remarks": list(row.remarks),
    }
