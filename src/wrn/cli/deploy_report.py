"""What `wrn deploy` reports: time, cost, assumptions, where to look."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wrn.aws.console import job_url, logs_url
from wrn.aws.deploying.capacity import Choice, options_for
from wrn.aws.deploying.launch import Launched
from wrn.aws.options import HOUR, OWNER_TAG, DeployOptions, limits, span
from wrn.aws.planning.estimate import Estimate
from wrn.aws.prices import BUNDLED_REGION, SAME_PRICES
from wrn.aws.requests.bundle import Bundle
from wrn.cli.deploy_flags import UNKNOWN_ACCOUNT
from wrn.cli.report import table


def facts(options: DeployOptions) -> list[str]:
    """What a person should know besides the requests: time, cost, assumptions."""
    most = limits(options)
    machines = f"{options.instance_count} x {options.instance_type}"
    if most.cost is None:
        money = "the price is unknown; give --price-per-hour"
    else:
        money = f"at most ${most.cost:.2f}{' (on demand; spot is cheaper)' if options.spot else ''}"
        if _is_foreign(options):
            money += f", at {BUNDLED_REGION}'s price; give that of {options.region} as --price-per-hour"
    lines = [f"{machines} in {options.region} for at most {span(most.runtime)}; {money}"]
    if options.account == UNKNOWN_ACCOUNT:
        lines.append(f"{UNKNOWN_ACCOUNT} stands for your account: give --account or --role-arn")
    return lines


def code_line(code: Bundle) -> str:
    """Which of several clones this is."""
    return f"code: that of {code.root} ({len(code.content) / 1000:.0f} kB)"


def policy_notes(options: DeployOptions) -> list[str]:
    """What an administrator should know before granting the policy of --print-policy."""
    lines = ["attach this policy to whoever deploys"]
    if not options.role_arn:
        lines.append(
            "careful: iam:PutRolePolicy with iam:PassRole is a broad grant: whoever has both can give "
            f"{options.role_name} any permission and use it in a job. Narrower: give --role-arn with a role that an "
            "administrator created (the policy then neither creates nor changes roles); or let an administrator create "
            f"{options.role_name} first, tagged {'='.join(OWNER_TAG)} and with a permissions boundary, which the "
            "role's policies cannot exceed, and remove iam:CreateRole from this policy; because of that tag, "
            f"`wrn teardown` deletes {options.role_name}, whoever created it"
        )
    return lines


def expectations(expected: Estimate | None, options: DeployOptions, ways: Sequence[Choice]) -> list[str]:
    """The expected time and cost, how this instance compares, and the fallbacks."""
    lines = (
        [expected_line(expected), expected.why] if expected else ["expected time and cost: unknown for this deployment"]
    )
    allowed = limits(options).runtime
    if expected and expected.hours * HOUR > allowed:
        what = (
            "; the job trains as many epochs as fit, fewer than the recipe's: raise --max-cost and --max-runtime"
            if options.max_cost
            else "; raise --max-runtime"
        )
        lines.append(
            f"careful: that exceeds the {span(allowed)} after which the job is stopped{what}, or use a faster instance"
        )
    if len(ways) > 1:
        others = [f"{way}{_ceiling(options_for(options, way, 2))}" for way in ways[1:]]
        lines.append(f"without quota or capacity: {', then '.join(others)}")
    return lines


def _ceiling(options: DeployOptions) -> str:
    cost = limits(options).cost
    by = f", at {BUNDLED_REGION}'s price" if _is_foreign(options) else ""
    return "" if cost is None else f" for at most ${cost:.2f}{by}"


def _is_foreign(options: DeployOptions) -> bool:
    """Whether the price is the bundled one, of another region."""
    return options.own_price is None and options.region not in SAME_PRICES


def expected_line(expected: Estimate) -> str:
    money = f"${expected.cost:.2f}{' (spot price assumed)' if expected.spot else ''}"
    return f"expected: about {span(expected.hours * HOUR)} and {money}, under the assumptions of wrn plan"


def outcome(launched: Launched, expected: Estimate | None, ceiling: float | None, profile: str | None) -> list[str]:
    """The started job, and the commands for it."""
    name, options = launched.name, launched.options
    money = "" if ceiling is None else f", at most ${ceiling:.2f}"
    where = f" --region {options.region}" + (f" --profile {profile}" if profile else "")
    commands = (
        (f"  wrn logs -f {name}{where}", "follow its output"),
        (f"  wrn status {name}{where}", "phase, epoch, top-1, cost so far"),
        (f"  wrn stop {name}{where}", "stop it; its checkpoints stay"),
        (f"  wrn fetch {name}{where}", "the trained model, when it is done"),
    )
    return [
        f"job: {name} on {options.instance_count} x {options.instance_type} in {options.region}{money}",
        *([expected_line(expected)] if expected else []),
        *(f"look: {url}" for url in [job_url(options.region, name)] if url),
        *(f"logs: {url}" for url in [logs_url(options.region, name)] if url),
        "next:",
        *table(commands).split("\n"),
    ]


def progress_line(done: int, total: int) -> None:
    """The progress of an upload; nothing without a terminal."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\rdata: {done / 1e6:.1f} of {total / 1e6:.1f} MB{end}")
        sys.stderr.flush()
