"""What `wrn deploy` tells a person: time, money, what was assumed, where to look."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wrn.aws.console import job_url, logs_url
from wrn.aws.deploying.capacity import Choice, options_for
from wrn.aws.deploying.launch import Launched
from wrn.aws.options import HOUR, OWNER_TAG, DeployOptions, limits, span
from wrn.aws.planning.estimate import Estimate
from wrn.aws.prices import BUNDLED_REGION, SAME_PRICES
from wrn.cli.deploy_flags import UNKNOWN_ACCOUNT
from wrn.cli.report import table


def facts(options: DeployOptions) -> list[str]:
    """What a person should know beside the requests: the time, the money, what was assumed."""
    most = limits(options)
    machines = f"{options.instance_count} x {options.instance_type}"
    if most.cost is None:
        money = "the price is not known: give --price-per-hour"
    else:
        money = f"at most ${most.cost:.2f}{' (on demand; spot is cheaper)' if options.spot else ''}"
        if _is_foreign(options):
            money += f", by {BUNDLED_REGION}'s price: --price-per-hour says that of {options.region}"
    lines = [f"{machines} in {options.region} for at most {span(most.runtime)}; {money}"]
    if options.account == UNKNOWN_ACCOUNT:
        lines.append(f"{UNKNOWN_ACCOUNT} stands for your account: give --account or --role-arn")
    return lines


def policy_notes(options: DeployOptions) -> list[str]:
    """What an administrator should know who gives the rights of --print-policy to somebody."""
    lines = ["attach it to whoever deploys"]
    if not options.role_arn:
        lines.append(
            "careful: iam:PutRolePolicy with iam:PassRole is a wide right: whoever has both can give "
            f"{options.role_name} any rights and use them in a job. Narrower: --role-arn with a role that an "
            "administrator made (then neither making nor changing roles is in the policy); or an administrator makes "
            f"{options.role_name} beforehand, tagged {'='.join(OWNER_TAG)} and with a permissions boundary, which the "
            "role's policies cannot exceed, and takes iam:CreateRole out of the policy; by that tag, though, "
            f"`wrn teardown` deletes {options.role_name}, whoever made it"
        )
    return lines


def expectations(expected: Estimate | None, options: DeployOptions, ways: Sequence[Choice]) -> list[str]:
    """What it will probably take, why this machine, and what comes after it."""
    lines = [expected_line(expected), expected.why] if expected else ["expected time and cost: not known for this"]
    allowed = limits(options).runtime
    if expected and expected.hours * HOUR > allowed:
        what = (
            "; as many epochs as fit are trained, fewer than the recipe's: raise --max-cost and --max-runtime"
            if options.max_cost
            else "; raise --max-runtime"
        )
        lines.append(
            f"careful: that is more than the {span(allowed)} after which the job is stopped{what}, or take a quicker "
            "instance"
        )
    if len(ways) > 1:
        others = [f"{way}{_ceiling(options_for(options, way, 2))}" for way in ways[1:]]
        lines.append(f"without quota or capacity: {', then '.join(others)}")
    return lines


def _ceiling(options: DeployOptions) -> str:
    cost = limits(options).cost
    by = f", by {BUNDLED_REGION}'s price" if _is_foreign(options) else ""
    return "" if cost is None else f" for at most ${cost:.2f}{by}"


def _is_foreign(options: DeployOptions) -> bool:
    """Whether the price is the bundled one, which is that of other regions."""
    return options.own_price is None and options.region not in SAME_PRICES


def expected_line(expected: Estimate) -> str:
    money = f"${expected.cost:.2f}{' (spot price assumed)' if expected.spot else ''}"
    return f"expected: about {span(expected.hours * HOUR)} and {money}, by the assumptions of wrn plan"


def outcome(launched: Launched, expected: Estimate | None, ceiling: float | None, profile: str | None) -> list[str]:
    """The job that was started, and what can be done with it."""
    name, options = launched.name, launched.options
    money = "" if ceiling is None else f", at most ${ceiling:.2f}"
    where = f" --region {options.region}" + (f" --profile {profile}" if profile else "")
    commands = (
        (f"  wrn logs -f {name}{where}", "follow its output"),
        (f"  wrn status {name}{where}", "phase, epoch, top-1, money so far"),
        (f"  wrn stop {name}{where}", "stop it; its checkpoints stay"),
        (f"  wrn fetch {name}{where}", "the trained model, when it is done"),
    )
    return [
        f"job: {name} on {options.instance_count} x {options.instance_type} in {options.region}{money}",
        *([expected_line(expected)] if expected else []),
        f"look: {job_url(options.region, name)}",
        f"logs: {logs_url(options.region, name)}",
        "next:",
        *table(commands).split("\n"),
    ]


def progress_line(done: int, total: int) -> None:
    """How far an upload is, at a terminal; elsewhere nothing."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\rdata: {done / 1e6:.1f} of {total / 1e6:.1f} MB{end}")
        sys.stderr.flush()
