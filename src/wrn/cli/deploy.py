"""`wrn deploy`: train on SageMaker. So far it shows every request, checked, with no account and no network."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wrn.aws.options import DAY, HOUR, DeployOptions, job_name, limits
from wrn.aws.prices import bundled_prices
from wrn.config.flags import Parser, add_config_flags, hyphenated, parse_config
from wrn.config.layers import Resolved, recipe_names, recipe_root, resolve
from wrn.errors import DONE, AwsError

UNKNOWN_ACCOUNT = "111122223333"
"""Stands for the account in a dry run that was told none: the one that AWS's own documentation uses."""

UNITS = {"": 1, "s": 1, "m": 60, "h": HOUR, "d": DAY}


def main(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="wrn deploy",
        description="Train on AWS SageMaker. All flags of `wrn train` are taken as well.",
        allow_abbrev=False,
        usage="wrn deploy --dry-run [--spot] [--instance-type T] [--max-cost $] [--recipe NAME|FILE] [--KEY VALUE ...]",
    )
    add_deploy_flags(parser)
    add_config_flags(parser)
    resolved = parse_config(parser, arguments)
    given = vars(parser.parse_known_args([hyphenated(argument) for argument in arguments])[0])
    if not given["dry_run"] and not given["write_json"]:
        raise AwsError(
            "deploying is not in this version yet; see what would be sent with --dry-run, or start the job yourself: "
            "--write-json job.json, then aws sagemaker create-training-job --cli-input-json file://job.json"
        )
    if given["monitor"]:
        raise AwsError("monitor: following a job is not in this version yet; leave it out")
    from wrn.aws.bundle import build_bundle
    from wrn.aws.deployment import calls_of
    from wrn.aws.request import code_prefix

    bundle = build_bundle(recipe_root())
    options = deploy_options(given, resolved, bundle.name, os.environ)
    # What the container finds by the recipe's name; another file of the same name differs in keys, and those are sent.
    recipe = resolved.recipe if resolved.recipe in recipe_names() else "standard"
    calls = calls_of(resolved.config, resolve(recipe, {}).config, recipe, options)
    notes = facts(options)
    if given["write_json"]:
        target = Path(given["write_json"])
        archive = target.with_name(bundle.name)
        try:
            target.write_text(json.dumps(calls[-1].request, indent=2) + "\n", encoding="utf-8")
            archive.write_bytes(bundle.content)
        except OSError as error:
            raise AwsError(f"write_json: {target} cannot be written ({error.strerror}); give another file") from None
        notes += [
            f"wrote {target} and the code, {archive} ({len(bundle.content) / 1000:.0f} kB)",
            f"next: aws s3 cp {archive} {code_prefix(options)}",
            f"then: aws sagemaker create-training-job --region {options.region} --cli-input-json file://{target}",
        ]
    if given["dry_run"]:
        shown = [{"service": call.service, "operation": call.operation, "request": call.request} for call in calls]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    sys.stderr.write("".join(f"{note}\n" for note in notes))
    return DONE


def add_deploy_flags(parser: Parser) -> None:
    """The flags of a deployment; all are strings here, and `deploy_options` gives them their meaning."""
    group = parser.add_argument_group("Deployment")
    group.add_argument("--dry-run", action="store_true", help="print every request as JSON and send nothing")
    group.add_argument("--write-json", metavar="FILE", help="write the job's request for the aws command, and the code")
    group.add_argument("--monitor", action="store_true", help="follow the job until it ends (not in this version yet)")
    for name, default, text in (
        ("name", "wrn-<recipe>-<time>", "of the job, unique in the account"),
        ("region", "$AWS_REGION, or us-east-1", "where"),
        ("instance-type", DeployOptions.instance_type, "what machine"),
        ("instance-count", DeployOptions.instance_count, "how many of them"),
        ("volume-gb", DeployOptions.volume_gb, "disk of machines without one of their own"),
        ("max-runtime", "24h", "stop after this time: 90m, 12h, 2d, or seconds"),
        ("max-wait", "twice max-runtime", "with --spot: for waiting and running together"),
        ("max-cost", "no limit", "stop before the instances have cost so many US dollars"),
        ("price-per-hour", "as in `wrn plan`", "of one instance, in US dollars"),
        ("keep-warm", "0", "keep the instances for the next job, and pay for them: 30m"),
        ("bucket", "wrn-<account>-<region>", "a bucket of yours, taken as it is"),
        ("data-uri", "data/ in the bucket", "s3://... with the data set"),
        ("role-arn", "none", "a role of yours, taken as it is"),
        ("role-name", DeployOptions.role_name, "the role to make"),
        ("account", "that of --role-arn", "the account's 12 digits"),
        ("image-uri", "AWS's PyTorch image", "the container image"),
        ("vpc-config", "none", "subnets and security groups: subnet-a,subnet-b,sg-c"),
        ("kms-key", "none", "encrypts results and disks: a key's id or ARN"),
    ):
        group.add_argument(f"--{name}", metavar="X", help=f"{text} [{default}]")
    group.add_argument("--spot", action="store_true", help="spot instances: cheaper, and interrupted now and then")
    group.add_argument("--network-isolation", action="store_true", help="no network inside the container")
    group.add_argument("--tags", metavar="K=V[,K=V]", action="append", default=[], help="tags on the job; may repeat")


def deploy_options(
    given: Mapping[str, Any], resolved: Resolved, code_name: str, environ: Mapping[str, str]
) -> DeployOptions:
    """The flags as options. Raises AwsError listing all that cannot be read."""
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
    given = {**given, "region": given["region"] or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")}
    subnets, groups = read("vpc_config", network, ((), ()))
    tags: dict[str, str] = {}
    for text in given["tags"]:
        try:
            tags |= read_tags(text)
        except ValueError as error:
            problems.append(f"tags: {text!r} {error}")
    instance = given["instance_type"] or DeployOptions.instance_type
    known = bundled_prices().get(instance)
    options = DeployOptions(
        name=given["name"] or job_name(resolved.recipe, time.strftime("%Y%m%d-%H%M%S")),
        account=read("account", account, told),
        region=read("region", region, DeployOptions.region),
        bucket=given["bucket"] or "",
        role_arn=given["role_arn"] or "",
        role_name=given["role_name"] or DeployOptions.role_name,
        image_uri=given["image_uri"] or "",
        code_name=code_name,
        data_uri=given["data_uri"] or "",
        instance_type=instance,
        instance_count=read("instance_count", whole, 1),
        volume_gb=read("volume_gb", whole, DeployOptions.volume_gb),
        spot=given["spot"],
        max_runtime=read("max_runtime", duration, DAY),
        max_wait=read("max_wait", duration, 0),
        max_cost=read("max_cost", dollars, 0.0),
        price_per_hour=read("price_per_hour", dollars, known.usd_per_hour if known else 0.0),
        keep_warm=read("keep_warm", duration, 0),
        subnets=subnets,
        security_groups=groups,
        kms_key=given["kms_key"] or "",
        network_isolation=given["network_isolation"],
        tags=tags,
    )
    if options.max_wait and not options.spot:
        problems.append("max_wait: is for spot instances alone; give --spot, or leave it out")
    if problems:
        raise AwsError("\n".join(problems))
    return options


def facts(options: DeployOptions) -> list[str]:
    """What a person should know beside the requests: the time, the money, what was assumed."""
    most = limits(options)
    machines = f"{options.instance_count} x {options.instance_type}"
    if most.cost is None:
        money = "the price is not known: give --price-per-hour"
    else:
        money = f"at most ${most.cost:.2f}{' (on demand; spot is cheaper)' if options.spot else ''}"
    lines = [f"{machines} in {options.region} for at most {most.runtime / HOUR:.1f} h; {money}"]
    if options.account == UNKNOWN_ACCOUNT:
        lines.append(f"{UNKNOWN_ACCOUNT} stands for your account: give --account or --role-arn")
    return lines


def duration(text: str) -> int:
    """Seconds of `90`, `90s`, `1.5h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError("is no time; give one such as 90m, 12h or 2d")
    return int(float(found[1]) * UNITS[found[2]])


def dollars(text: str) -> float:
    found = re.fullmatch(r"\$?(\d+(?:\.\d+)?)", text.strip(), re.ASCII)
    if found is None or not float(found[1]):
        raise ValueError("is no amount above 0; give US dollars, such as 5 or 1.41")
    return float(found[1])


def whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not int(text):
        raise ValueError("must be a whole number above 0")
    return int(text)


def account(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise ValueError("is no account; it has 12 digits")
    return text


def region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(?:-[a-z]+)+-\d", text):
        raise ValueError("is no region; give one such as eu-west-1")
    return text


def network(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Subnets and security groups, told apart by how their names begin."""
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
