"""`wrn deploy`: train on SageMaker. --dry-run shows every request, validated; --local runs the job on this machine.

Neither of these two needs an account or a network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from wrn.aws.account.deploy_permissions import deployer_policy
from wrn.aws.account.errors import NoAnswer
from wrn.aws.account.notifications import check_topic
from wrn.aws.account.session import Session, configured_region
from wrn.aws.account.waiting import WATCH
from wrn.aws.catalog.estimate import Estimate, estimate, expected_times
from wrn.aws.catalog.prices import SAME_PRICES, Price, live_prices
from wrn.aws.container.ecr import check_gpu, check_pushed, content_tag
from wrn.aws.jobs.calls import Call, calls_of
from wrn.aws.jobs.capacity import Choice, check_enabled, check_regions, choices, options_for
from wrn.aws.jobs.launch import Launch, Launched, Order, with_key
from wrn.aws.jobs.options import HOUR, DeployOptions, bucket_name, image_uri, limits
from wrn.aws.jobs.request import data_uri, job_base
from wrn.aws.s3.code_archive import Bundle, build_bundle, source_root
from wrn.aws.s3.dataset_files import Parcel, find_parcel, official_key
from wrn.aws.s3.wheels import fetch_wheels, wheels_name
from wrn.cli.aws_flags import may_run, notice
from wrn.cli.dataset_size import with_dataset_size
from wrn.cli.deploy_files import next_steps, write_files
from wrn.cli.deploy_flags import Wishes, add_deploy_flags, read_wishes, switched_on
from wrn.cli.deploy_report import code_line, expectations, facts, outcome, policy_notes, progress_line
from wrn.cli.report import say
from wrn.config.flags import Parser, add_config_flags, hyphenated, parse_config
from wrn.config.layers import recipe_names
from wrn.config.paths import data_search
from wrn.config.schema import Config
from wrn.errors import DONE, AwsError
from wrn.strict_json import to_json

OWN_IMAGE = "auto"
"""The value of --image-uri that selects the image of `wrn image push`."""


@dataclass(frozen=True)
class Task:
    """The parsed flags, validated as far as possible without an account."""

    config: Config
    base: Config
    recipe: str
    bundle: Bundle
    wishes: Wishes
    flags: dict[str, Any]
    sized: Config
    """The configuration with the number of training images, for estimates only."""
    size_notes: Sequence[str]
    changes: Sequence[str]
    """A line for each default that adapted to a flag."""

    @property
    def options(self) -> DeployOptions:
        return self.wishes.options

    @property
    def ways(self) -> tuple[Choice, ...]:
        on_demand = self.wishes.patience.on_demand_after is not None
        return choices(self.options, self.wishes.fallback, on_demand=on_demand)

    @property
    def places(self) -> list[DeployOptions]:
        """The options of each attempt."""
        return [options_for(self.options, way, number) for number, way in enumerate(self.ways, start=1)]

    def with_options(self, options: DeployOptions) -> Task:
        return replace(self, wishes=replace(self.wishes, options=options))

    def calls(self, options: DeployOptions) -> list[Call]:
        return calls_of(self.config, self.base, self.recipe, options)


def main(arguments: Sequence[str]) -> int:
    task = read_task(arguments)
    if task.flags["local"]:
        from wrn.cli.deploy_local import rehearse

        return rehearse(task)
    if task.flags["print_policy"]:
        sys.stdout.write(to_json(deployer_policy(task.places, task.wishes.notices), indent=2) + "\n")
        say("\n".join([*facts(task.options)[1:], *policy_notes(task.options)]))
        return DONE
    if task.flags["dry_run"] or task.flags["write_json"]:
        return show(task)
    session = Session(region=task.options.region, profile=task.flags["profile"])
    WATCH.on_message = notice
    try:
        session.log_in()
        return send(task, session)
    finally:
        if task.flags["debug"]:
            lines = "".join(f"  {service} {operation}\n" for service, operation in session.sent)
            sys.stderr.write(f"{len(session.sent)} requests to AWS:\n{lines}")


def read_task(arguments: Sequence[str]) -> Task:
    """Raises WrnErrors listing every mistake that can be found without an account."""
    parser = Parser(
        prog="wrn deploy",
        description="Train on AWS SageMaker. Also takes every flag of `wrn train`.",
        allow_abbrev=False,
        usage="wrn deploy [--dry-run | --local] [--spot] [--instance-type T] [--recipe R] [--KEY VALUE ...]",
    )
    add_deploy_flags(parser)
    add_config_flags(parser)
    resolved = parse_config(parser, arguments)
    typed = vars(parser.parse_known_args([hyphenated(argument) for argument in arguments])[0])
    flags, switched = switched_on(typed)
    bundle = build_bundle(source_root())
    home = None if flags["region"] else configured_region(flags["profile"])
    wishes = read_wishes(flags, resolved, bundle.name, home)
    options = wishes.options
    if options.image_uri == OWN_IMAGE:
        options = replace(options, image_uri="", image_tag=content_tag(source_root()))
    options = replace(options, wheels_name=wheels_name(source_root(), options))
    wishes = replace(wishes, options=options)
    # What the container finds under the recipe's name; keys in which a local file of that name differs are sent.
    recipe = resolved.recipe if resolved.recipe in recipe_names() else "standard"
    sized, size_notes = with_dataset_size(resolved.config, elsewhere=bool(options.data_uri))
    base = job_base(resolved.config, recipe)
    changes = (*switched, *resolved.changes)
    task = Task(resolved.config, base, recipe, bundle, wishes, flags, sized, size_notes, changes)
    if not flags["local"]:  # this machine is none of those whose speed is estimated
        expected = expected_times(sized, task.places, today=date.today())
        task = task.with_options(replace(options, expected=expected))
    check_regions(task.options, task.ways)
    check_topic(task.wishes.notices, (way.region for way in task.ways))
    for place in task.places:
        if place.image_tag:
            check_gpu(source_root(), place.instance_type)
        task.calls(place)
    return task


def show(task: Task) -> int:
    """Print what would be sent; write the job's request and the code if asked to."""
    data, notes = data_here(task)
    options = with_key(task.options, data)
    if data is None and not options.data_uri:
        options = replace(options, data_key=official_key(task.config))
    calls = task.calls(options)
    if options.image_tag:
        notes = [*notes, f"image: {image_uri(options)}; it must have been pushed by `wrn image push`"]
    told = facts(options)
    notes = [*told, code_line(task.bundle), *_expected(task), *notes]
    foreign = dict.fromkeys(way.region for way in task.ways if way.region not in SAME_PRICES)
    if foreign and options.own_price is None:
        notes.append(
            f"prices: those of the US here; a real deployment uses and records AWS's prices for {', '.join(foreign)}"
        )
    if task.flags["write_json"]:
        notes += by_hand(task.flags["write_json"], calls[-1].request, task, options, data)
    if task.flags["dry_run"]:
        shown = [{"service": call.service, "operation": call.operation, "request": call.request} for call in calls]
        sys.stdout.write(to_json(shown, indent=2) + "\n")
    sys.stderr.write("".join(f"{note}\n" for note in notes))
    return DONE


def data_here(task: Task) -> tuple[Parcel | None, list[str]]:
    """The data on this machine and a note about it. Fetches nothing; missing data is only reported."""
    from wrn.data.locate import OutOfReach

    if task.config.dataset == "synthetic" or task.options.data_uri:
        return None, []
    try:
        data = find_parcel(task.config, data_search(), download=False)
    except OutOfReach as error:
        return None, [f"data: {error}" if not task.config.download else f"data: {_first(error)}; deploying fetches it"]
    remarks = [f"data: {remark}" for remark in data.remarks]
    return data, [f"data: {_first_file(data)} ({data.size / 1e6:.1f} MB), sent once", *remarks]


def by_hand(
    target: Path, request: dict[str, Any], task: Task, options: DeployOptions, data: Parcel | None
) -> list[str]:
    """The files of --write-json, and what to do with them."""
    files = write_files(target, request, task.bundle, options)
    elsewhere = task.config.dataset == "synthetic" or bool(options.data_uri)
    data_to = "" if elsewhere else data_uri(task.config, options)
    size = len(task.bundle.content) / 1000
    return [
        f"wrote {target}, the code {files.archive} ({size:.0f} kB), {files.trust.name} and {files.rights.name}",
        *next_steps(files, options, data, data_to, profile=task.flags["profile"]),
    ]


def send(task: Task, session: Session) -> int:
    """Deploy, print where to look, and follow the job if asked to."""
    task = task.with_options(real_prices(of_account(task.options, session, task.flags), task.ways, task.flags))
    check_enabled(session, task.ways)
    told = facts(task.options)
    say("\n".join([*told, code_line(task.bundle), *_expected(task)]))
    if task.options.image_tag:
        for region in dict.fromkeys(way.region for way in task.ways):
            check_pushed(session.in_region(region), task.options.image_tag)
    agree(task)
    task, data = with_data(task)
    options, wheels = with_wheels(with_key(task.options, data))
    order = Order(
        config=task.config,
        base=task.base,
        recipe=task.recipe,
        options=options,
        code=task.bundle,
        data=data,
        wheels=wheels,
        notices=task.wishes.notices,
        choices=task.ways,
        patience=task.wishes.patience,
    )
    launch = Launch(session, order, say, progress_line)
    try:
        launched = launch.run()
    except (AwsError, KeyboardInterrupt):
        if launch.started:
            say(may_run(launch.started, launch.started_in or session))
        raise
    report(task, launched)
    if task.flags["monitor"]:
        return monitor(launched, json_lines=task.flags["json"])
    return DONE


def of_account(options: DeployOptions, session: Session, flags: dict[str, Any]) -> DeployOptions:
    """The options with the account and user of the credentials. Raises AwsError if another account was given."""
    for flag in ("account", "role_arn"):
        if flags[flag] and options.account != session.account:
            raise AwsError(
                f"{flag}: is for account {options.account}, but these credentials belong to {session.account}; "
                "choose others with --profile, or leave it out"
            )
    return replace(options, account=session.account, user=session.user)


def real_prices(options: DeployOptions, ways: Sequence[Choice], flags: dict[str, Any]) -> DeployOptions:
    """The options with AWS's own prices, for the region and every fallback whose prices are not the bundled ones.

    Raises AwsError if --max-cost is set and a price is not available: the limit would not hold.
    """
    lists: dict[str, dict[str, Price] | AwsError] = {}
    prices: dict[tuple[str, str], Price] = {}
    home = (options.region, options.instance_type)
    for region, kind in dict.fromkeys((way.region, way.instance_type) for way in ways):
        if region in SAME_PRICES or ((region, kind) == home and (options.own_price or not options.price_per_hour)):
            continue
        if region not in lists:
            unreachable = [found for found in lists.values() if isinstance(found, NoAnswer)]
            lists[region] = unreachable[0] if unreachable else _price_list(region, flags["profile"])
        known = lists[region]
        if isinstance(known, dict) and kind in known:
            prices[region, kind] = replace(known[kind], region=region)
        elif options.max_cost:
            why = known if isinstance(known, AwsError) else f"AWS's Price List has no {kind} in {region}"
            fix = "give --price-per-hour" if (region, kind) == home else f"leave {region}:{kind} out of --fallback"
            raise AwsError(
                f"max_cost: would use the price of another region ({why}); {fix}, or give --max-runtime instead"
            )
    own = prices.pop(home, options.own_price)
    dollars = own.usd_per_hour if own else options.price_per_hour
    return replace(options, price_per_hour=dollars, own_price=own, prices=prices)


def _price_list(region: str, profile: str | None) -> dict[str, Price] | AwsError:
    try:
        return live_prices(region, profile=profile)
    except AwsError as error:
        return error


def agree(task: Task) -> None:
    """Ask once, before anything that costs money. Raises AwsError for a no, or without a terminal to ask on."""
    if task.flags["yes"]:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise AwsError("no terminal to confirm on; give --yes (try --dry-run first)")
    sys.stderr.write("Continue? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AwsError("nothing was sent; give --yes to skip the question")


def with_data(task: Task) -> tuple[Task, Parcel | None]:
    """The data to send, fetched if missing. `auto` falls back to the synthetic set if there is none."""
    from wrn.data.locate import OutOfReach

    if task.config.dataset == "synthetic" or task.options.data_uri:
        return task, None
    try:
        data = find_parcel(task.config, data_search())
    except OutOfReach as error:
        if task.config.dataset != "auto":
            raise
        say(f"data: {error.why}; the job trains on the synthetic set")
        return replace(task, config=task.config.model_copy(update={"dataset": "synthetic"})), None
    for remark in data.remarks:
        say(f"data: {remark}")
    return task, data


def with_wheels(options: DeployOptions) -> tuple[DeployOptions, Parcel | None]:
    """The packages to send. A job in a subnet may do without them; one with network isolation cannot."""
    if not options.wheels_name:
        return options, None
    try:
        return options, fetch_wheels(source_root(), options)
    except AwsError as error:
        if options.network_isolation:
            raise
        say(f"{_first(error)}; the job must reach a package index from its subnet")
        return replace(options, wheels_name=""), None


def report(task: Task, launched: Launched) -> None:
    expected = estimate(task.sized, launched.options, today=date.today())
    ceiling = limits(launched.options).cost
    if task.flags["json"]:
        told = outcome_json(launched, expected, ceiling) | {"code_folder": str(task.bundle.root)}
        sys.stdout.write(to_json(told) + "\n")
        return
    sys.stdout.write("\n".join(outcome(launched, expected, ceiling, task.flags["profile"])) + "\n")
    sys.stdout.flush()


def outcome_json(launched: Launched, expected: Estimate | None, ceiling: float | None) -> dict[str, Any]:
    from wrn.aws.jobs.console import job_url, logs_url

    options = launched.options
    return {
        "type": "started",  # with --monitor, lines of other types follow
        "name": launched.name,
        "region": options.region,
        "account": options.account,
        "instance_type": options.instance_type,
        "instance_count": options.instance_count,
        "spot": options.spot,
        "bucket": bucket_name(options),
        "max_runtime_hours": limits(options).runtime / HOUR,
        "max_cost_usd": ceiling,
        "expected_hours": expected.hours if expected else None,
        "expected_cost_usd": expected.cost if expected else None,
        "job_url": job_url(options.region, launched.name),
        "logs_url": logs_url(options.region, launched.name),
    }


def monitor(launched: Launched, *, json_lines: bool) -> int:
    from wrn.cli.logs import follow_job

    ceiling = limits(launched.options).cost
    return follow_job(launched.session, launched.name, ceiling=ceiling, json_lines=json_lines)


def _expected(task: Task) -> list[str]:
    attempts = [(place, estimate(task.sized, place, today=date.today())) for place in task.places]
    return [*task.changes, *expectations(attempts), *task.size_notes]


def _first_file(data: Parcel) -> str:
    name = str(data.files[0][1])
    return name if len(data.files) == 1 else f"{len(data.files)} files such as {name}"


def _first(error: Exception) -> str:
    return str(error).partition(";")[0]
