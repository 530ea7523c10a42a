"""What `wrn deploy` reports: time, cost, assumptions, where to look."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from wrn.aws.account.names import OWNER_TAG
from wrn.aws.catalog.estimate import Estimate
from wrn.aws.catalog.prices import BUNDLED_REGION, SAME_PRICES
from wrn.aws.jobs.capacity import Choice
from wrn.aws.jobs.console import job_url, logs_url
from wrn.aws.jobs.launch import Launched
from wrn.aws.jobs.options import (
    HOUR,
    LIMIT_FACTOR,
    LONGEST_LIMIT,
    LONGEST_RUN,
    SHORTEST_LIMIT,
    DeployOptions,
    as_flag,
    default_wait,
    holding_limit,
    limits,
    most_usd,
)
from wrn.aws.s3.code_archive import Bundle
from wrn.cli.deploy_flags import UNKNOWN_ACCOUNT
from wrn.cli.report import table
from wrn.text import duration, shell_command


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
    lines = [f"{machines} in {options.region} for at most {duration(most.runtime)}; {money}"]
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


def expectations(attempts: Sequence[tuple[DeployOptions, Estimate | None]]) -> list[str]:
    """The expected time and cost, how this instance compares, its time limit, and the fallbacks.

    attempts: the options and the estimate of each place, in order.
    """
    (options, expected), *others = attempts
    lines = (
        [expected_line(expected), expected.why] if expected else ["expected time and cost: unknown for this deployment"]
    )
    if not (options.max_runtime or options.max_cost):
        lines.append(_default_limit_line(options))
    if others:
        lines.append(f"without quota or capacity: {', then '.join(_fallback(place) for place, _ in others)}")
    return lines + list(dict.fromkeys(line for attempt in attempts for line in too_long(*attempt)))


def _default_limit_line(options: DeployOptions) -> str:
    runtime = limits(options).runtime
    if runtime == options.max_wait:
        why = "that of --max-wait"
    elif options.instance_type in options.expected:
        bounds = f"at least {duration(SHORTEST_LIMIT)}, at most {duration(LONGEST_LIMIT)}"
        expected = "the expected time" if options.instance_count == 1 else "what one instance is expected to take"
        why = f"{LIMIT_FACTOR} times {expected}, {bounds}"
    else:
        why = "as it is not known how long it takes"
    return f"time limit: {duration(runtime)} ({why}); a job that reaches it has saved, and wrn resume continues it"


def too_long(options: DeployOptions, expected: Estimate | None) -> list[str]:
    """A warning if the job is expected to take longer than its time limit, with the flags that would hold it."""
    allowed = limits(options).runtime
    if expected is None or (seconds := expected.hours * HOUR) <= allowed:
        return []
    head = f"careful: {options.instance_type} is expected to take {duration(seconds)}, but the job is stopped after "
    head += duration(allowed)
    head += ", having trained as many epochs as fit" if options.max_cost else "; wrn resume then continues it"
    if seconds > LONGEST_RUN:
        return [f"{head}; SageMaker stops every job after 28 days: use a faster instance"]
    needed = holding_limit(seconds)
    flags = []
    if options.max_runtime or not options.max_cost:
        flags.append(f"--max-runtime {as_flag(needed)}")
    if options.max_cost:
        flags.append(f"--max-cost {math.ceil(most_usd(options, needed) or 0)}")
    if 0 < options.max_wait < needed:
        flags.append(f"--max-wait {as_flag(default_wait(needed))}")
    return [f"{head}; give {' '.join(flags)}, or use a faster instance"]


def _fallback(options: DeployOptions) -> str:
    most = limits(options)
    by = f", at {BUNDLED_REGION}'s price" if _is_foreign(options) else ""
    money = "" if most.cost is None else f" and ${most.cost:.2f}{by}"
    return f"{Choice(options.region, options.instance_type, options.spot)} for at most {duration(most.runtime)}{money}"


def _is_foreign(options: DeployOptions) -> bool:
    """Whether the price is the bundled one, of another region."""
    return options.own_price is None and options.region not in SAME_PRICES


def expected_line(expected: Estimate) -> str:
    money = f"${expected.cost:.2f}{' (spot price assumed)' if expected.spot else ''}"
    return f"expected: about {duration(expected.hours * HOUR)} and {money}, under the assumptions of wrn plan"


def outcome(launched: Launched, expected: Estimate | None, ceiling: float | None, profile: str | None) -> list[str]:
    """The started job, and the commands for it."""
    name, options = launched.name, launched.options
    money = "" if ceiling is None else f", at most ${ceiling:.2f}"
    where = f" --region {options.region}" + (f" --profile {shell_command(profile)}" if profile else "")
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
