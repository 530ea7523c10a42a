"""The flags of `wrn deploy` and their parsing."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.notifications import Notices, read_target
from wrn.aws.account.partitions import REGION
from wrn.aws.catalog.prices import GIVEN, Price, bundled_prices
from wrn.aws.jobs.capacity import read_fallback
from wrn.aws.jobs.launch import Patience
from wrn.aws.jobs.options import DAY, HOUR, DeployOptions, job_name
from wrn.cli.values import reachable
from wrn.config.flags import Parser
from wrn.config.layers import Resolved
from wrn.errors import AwsError

UNKNOWN_ACCOUNT = "111122223333"
"""Placeholder in a dry run that was given no account: the one that AWS's own documentation uses."""

UNITS = {"": 1, "s": 1, "m": 60, "h": HOUR, "d": DAY}


def add_deploy_flags(parser: Parser) -> None:
    """The flags of a deployment; all but paths are strings here, and `read_wishes` parses them."""
    group = parser.add_argument_group("Deployment")
    group.add_argument("--dry-run", action="store_true", help="print every request as JSON and send nothing")
    group.add_argument(
        "--write-json",
        type=reachable,
        metavar="FILE",
        help="write request, code and role's policies, and print the aws commands",
    )
    group.add_argument(
        "--print-policy", action="store_true", help="print the IAM policy that this deployment needs, as JSON"
    )
    group.add_argument("--local", action="store_true", help="run the job on this machine: no AWS account, no Docker")
    group.add_argument("--monitor", action="store_true", help="follow the job until it ends, as wrn logs -f does")
    group.add_argument("--yes", action="store_true", help="do not ask for confirmation; required without a terminal")
    group.add_argument("--json", action="store_true", help="print the result as one JSON object")
    group.add_argument(
        "--debug",
        action="store_true",
        help="list every request to AWS, and show where an error was raised",
    )
    for name, default, text in (
        ("name", "wrn-<recipe>-<time>", "name of the job, unique in the account"),
        ("region", "$AWS_REGION, the profile's, or us-east-1", "AWS region"),
        ("profile", "$AWS_PROFILE", "profile in AWS's configuration whose credentials to use"),
        ("instance-type", DeployOptions.instance_type, "instance type"),
        ("instance-count", DeployOptions.instance_count, "number of instances"),
        ("volume-gb", DeployOptions.volume_gb, "disk size in GB for instances without local storage"),
        (
            "max-runtime",
            "with max-cost none, else 6 times the expected time, at least 2h, at most 24h",
            "stop after this time, saved and to be resumed: 90m, 12h, 2d, or seconds",
        ),
        ("max-wait", "twice max-runtime, at least a day more", "with --spot: limit on waiting and running together"),
        ("max-cost", "no limit", "stop before the cost exceeds this many US dollars"),
        ("price-per-hour", "as in `wrn plan`", "price of one instance, in US dollars"),
        ("fallback", "none", "what to try next without quota or capacity, in order: g6.xlarge,us-west-2:g5.xlarge"),
        (
            "wait-for-capacity",
            "10",
            "with --fallback: minutes to wait for each choice but the last; alone: minutes before the job is stopped",
        ),
        ("on-demand-after", "never", "with --spot: minutes without capacity before switching to on-demand"),
        ("notify", "nobody", "whom to notify when the job ends: an SNS topic ARN, an email address, or https://..."),
        (
            "budget",
            "100, or the existing one",
            "with --alarms: monthly SageMaker budget in US dollars; exceeding it notifies --notify",
        ),
        ("keep-warm", "0", "keep the instances for the next job, billed all the while: 30m"),
        ("bucket", "wrn-<account>-<region>", "a bucket of your own, used unchanged"),
        ("data-uri", "data/ in the bucket", "s3://... with the data set"),
        ("role-arn", "none", "ARN of a role of your own, used unchanged"),
        ("role-name", DeployOptions.role_name, "name of the role to create"),
        ("account", "that of the credentials", "expected account, 12 digits; any other is refused"),
        ("image-uri", "AWS's PyTorch image", "container image; auto: the one of `wrn image push`"),
        ("vpc-config", "none", "subnets and security groups: subnet-a,subnet-b,sg-c"),
        ("kms-key", "none", "id or ARN of the key that encrypts results and disks"),
        ("interrupt-after", "never", "with --local --spot: interrupt the job after this time; 60,60: twice"),
    ):
        group.add_argument(f"--{name}", metavar="X", help=f"{text} [{default}]")
    group.add_argument(
        "--local-dir",
        type=reachable,
        metavar="D",
        help="with --local: folder for the job and its results [runs/local/<name>]",
    )
    group.add_argument("--spot", action="store_true", help="use spot instances: cheaper, but they can be interrupted")
    group.add_argument(
        "--alarms", action="store_true", help="create a dashboard, an alarm on failed jobs and a monthly budget"
    )
    group.add_argument("--full-access", action="store_true", help="also attach AmazonSageMakerFullAccess to the role")
    group.add_argument("--network-isolation", action="store_true", help="no network inside the container")
    group.add_argument("--tags", metavar="K=V[,K=V]", action="append", default=[], help="tags on the job; may repeat")


@dataclass(frozen=True)
class Wishes:
    """The parsed flags: where and how the job runs, and how it is deployed."""

    options: DeployOptions
    fallback: tuple[tuple[str, str], ...]
    patience: Patience
    notices: Notices
    interruptions: tuple[int, ...] = ()
    """With --local: seconds into each run at which the machine is taken away."""


NEEDS = {
    **dict.fromkeys(("local_dir", "interrupt_after"), "local"),
    **dict.fromkeys(("max_wait", "on_demand_after"), "spot"),
    "budget": "alarms",
}
"""Flags that mean nothing without a switch, which is off by default."""


def switched_on(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The flags with the switches on that others need, and a line for each."""
    needed = {switch: flag for flag, switch in NEEDS.items() if given[flag] is not None and not given[switch]}
    if given["interrupt_after"] is not None and not given["spot"]:
        needed["spot"] = "interrupt_after"  # only spot instances are interrupted
    lines = (f"{switch}: on, as --{flag.replace('_', '-')} needs it" for switch, flag in needed.items())
    return {**given, **dict.fromkeys(needed, True)}, tuple(lines)


def read_wishes(given: Mapping[str, Any], resolved: Resolved, code_name: str, home: str | None) -> Wishes:
    """Parse the flags. home: the region if none was given.

    Raises AwsError listing every flag that cannot be parsed.
    """
    problems: list[str] = []

    def read(name: str, convert: Any, default: Any) -> Any:
        text = given[name]
        if text is None:
            return default
        try:
            return convert(text)
        except ValueError as error:
            problems.append(f"{name}: {text!r} {error}")
            return default

    role = (given["role_arn"] or "").split(":")
    told = role[4] if len(role) > 5 and re.fullmatch(r"\d{12}", role[4]) else UNKNOWN_ACCOUNT
    given = {**given, "region": given["region"] or home}
    subnets, groups = read("vpc_config", network, ((), ()))
    tags: dict[str, str] = {}
    for text in given["tags"]:
        try:
            tags |= read_tags(text)
        except ValueError as error:
            problems.append(f"tags: {text!r} {error}")
    instance = f"ml.{(given['instance_type'] or DeployOptions.instance_type).removeprefix('ml.')}"
    known = bundled_prices().get(instance)
    place = read("region", region, DeployOptions.region)
    given_price = read("price_per_hour", dollars, 0.0)
    options = DeployOptions(
        # A random suffix: two deployments in the same second are two jobs.
        name=given["name"] or job_name(resolved.recipe, f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"),
        account=read("account", account, told),
        region=place,
        bucket=given["bucket"] or "",
        role_arn=given["role_arn"] or "",
        role_name=read("role_name", role_name, DeployOptions.role_name),
        full_access=given["full_access"],
        image_uri=given["image_uri"] or "",
        code_name=code_name,
        data_uri=given["data_uri"] or "",
        instance_type=instance,
        instance_count=read("instance_count", whole, 1),
        volume_gb=read("volume_gb", whole, DeployOptions.volume_gb),
        spot=given["spot"],
        max_runtime=read("max_runtime", time_limit, 0),
        max_wait=read("max_wait", time_limit, 0),
        max_cost=read("max_cost", dollars, 0.0),
        price_per_hour=given_price or (known.usd_per_hour if known else 0.0),
        own_price=Price(given_price, place, GIVEN) if given_price else None,
        keep_warm=read("keep_warm", duration, 0),
        subnets=subnets,
        security_groups=groups,
        kms_key=given["kms_key"] or "",
        network_isolation=given["network_isolation"],
        tags=tags,
    )
    if options.full_access and options.role_arn:
        problems.append("full_access: a role given as --role-arn is used unchanged; leave out one of the two")
    fallback = read("fallback", read_fallback, ())
    wait, on_demand_after = read("wait_for_capacity", minutes, None), read("on_demand_after", minutes, None)
    elsewhere = bool(fallback) or on_demand_after is not None
    patience = Patience(Patience.each if wait is None else wait, on_demand_after, None if elsewhere else wait)
    notices = Notices(read("notify", read_target, ""), given["alarms"], read("budget", dollars, None))
    problems += _of_rehearsals(given)
    interruptions = read("interrupt_after", moments, ())
    wishes = Wishes(options, fallback, patience, notices, interruptions)
    if problems:
        raise AwsError("\n".join(problems))
    return wishes


def _of_rehearsals(given: Mapping[str, Any]) -> list[str]:
    """Conflicts between --local and other flags."""
    problems = []
    if given["local"]:
        problems += [
            f"{name}: runs no job; leave out --{name.replace('_', '-')} or --local (and what needs it)"
            for name in ("dry_run", "write_json", "print_policy")
            if given[name]
        ]
        if given["data_uri"]:
            problems.append("data_uri: with --local the data comes from this machine; give its folder as --data-dir")
    return problems


def moments(text: str) -> tuple[int, ...]:
    """Seconds of each entry of `60,2m`; at least 1, as before that there is no process to interrupt."""
    found = tuple(duration(word) for word in text.split(","))
    if not all(found):
        raise ValueError("must be times of at least 1 s")
    return found


def duration(text: str) -> int:
    """Seconds of `90`, `90s`, `1.5h`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError("is not a time; give one such as 90m, 12h or 2d")
    return int(float(found[1]) * UNITS[found[2]])


def time_limit(text: str) -> int:
    """Seconds, at least 1: 0 stands for the default."""
    seconds = duration(text)
    if not seconds:
        raise ValueError("must be at least 1 s")
    return seconds


def minutes(text: str) -> int:
    """Seconds of `20`, `90s`, `2h`; without a unit, minutes."""
    return duration(text if text.strip()[-1:] in ("s", "m", "h", "d") else f"{text.strip()}m")


def dollars(text: str) -> float:
    found = re.fullmatch(r"\$?(\d{1,9}(?:\.\d+)?)", text.strip(), re.ASCII)
    if found is None or not float(found[1]):
        raise ValueError("is not an amount above 0; give US dollars, such as 5 or 1.41")
    return float(found[1])


def whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not int(text):
        raise ValueError("must be a whole number above 0")
    return int(text)


def account(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise ValueError("is not an account; give its 12 digits")
    return text


def role_name(text: str) -> str:
    """A name alone. IAM finds the role by it and gives the ARN with its path."""
    if text.startswith("arn:") or "/" in text:
        what = "an ARN" if text.startswith("arn:") else "a name with a path"
        raise ValueError(f"is {what}; give the role's ARN as --role-arn, or its name alone")
    if not re.fullmatch(r"[\w+=,.@-]{1,64}", text, re.ASCII):
        raise ValueError("is not a role name; give letters, digits and + = , . @ - _, at most 64 characters")
    return text


def region(text: str) -> str:
    if not re.fullmatch(REGION, text, re.ASCII):
        raise ValueError("is not a region; give one such as eu-west-1")
    return text


def network(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Subnets and security groups, told apart by their prefixes."""
    names = [name.strip() for name in text.split(",")]
    subnets = tuple(name for name in names if name.startswith("subnet-"))
    groups = tuple(name for name in names if name.startswith("sg-"))
    if not subnets or not groups or len(subnets) + len(groups) < len(names):
        raise ValueError("must be subnets and security groups, as in subnet-a,subnet-b,sg-c")
    return subnets, groups


def read_tags(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError("must be K=V, or K=V,K=V")
    return {key.strip(): value.strip() for key, _, value in pairs}
