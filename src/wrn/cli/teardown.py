"""`wrn teardown`: list what wrn created in the account, with sizes and costs, then remove it."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from wrn.aws.account.policies import Document
from wrn.aws.account.session import Session
from wrn.aws.jobs.options import DeployOptions
from wrn.aws.resources.inventory import Inventory, bucket_given, take_inventory
from wrn.aws.resources.permissions import clearing_policy
from wrn.aws.resources.teardown import check_records, remove
from wrn.cli.aws_flags import add_policy_flags, aws_parser, check_account, confirm, print_policy, with_session
from wrn.cli.costs import resource_json, resource_table
from wrn.errors import DONE, AwsError
from wrn.strict_json import to_json

ROUNDS = 3
"""Something may be left after one round, such as an object that was just being written."""

PAUSE_SECONDS = 5.0
"""Between rounds: for some seconds, some listings still show what is gone."""


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "teardown",
        "Remove everything in the account that wrn created, found by the tag created-by=wrn.",
        "[--dry-run] [--print-policy [--account ID]] [--yes] [--everyones] [--records] [--bucket B] [--region R] "
        "[--json]",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    add_policy_flags(parser, "this needs")
    parser.add_argument("--yes", action="store_true", help="remove without asking; running jobs are stopped")
    parser.add_argument(
        "--everyones",
        action="store_true",
        help="also stop running jobs that somebody else started, or that do not say who started them",
    )
    parser.add_argument(
        "--records",
        action="store_true",
        help="also delete SageMaker's records of the jobs (settings and metrics) for good",
    )
    parser.add_argument(
        "--bucket",
        metavar="B",
        action="append",
        default=[],
        help="a bucket of your own that was deployed to: what is under wrn/ goes, the rest stays; may repeat",
    )
    options = parser.parse_args(arguments)
    check_account(options)
    if options.print_policy:
        return print_policy(options, lambda account, region: policy_of(options, account, region))
    return with_session(options, clear)


def policy_of(options: Namespace, account: str, region: str) -> Document:
    home = DeployOptions(name="any", account=account, region=region)
    given = [replace(home, bucket=bucket_given(name)) for name in options.bucket]
    return clearing_policy([home, *given], records=options.records)


def clear(options: Namespace, session: Session) -> int:
    buckets = [bucket_given(name) for name in options.bucket]
    if options.records:
        check_records(session)
    inventory = take_inventory(session, buckets=buckets, records=options.records)
    asking = bool(inventory.resources) and not (options.dry_run or options.yes)
    if asking or not options.json or not inventory.resources:
        tell(inventory, session)
    removed: list[dict[str, Any]] = []
    if inventory.resources and not options.dry_run:
        if not options.everyones:
            refuse_others(session, inventory)
        running = [
            f"{resource.name}{' (of ' + resource.data['user'] + ')' if resource.data['user'] else ''}"
            for resource in inventory.resources
            if resource.kind == "training job"
        ]
        also = f" {', '.join(running)} is running and will be stopped." if running else ""
        question = f"Remove all of this in account {session.account}?{also}"
        if not confirm(question, yes=options.yes, otherwise="give --yes, or --dry-run to only look"):
            sys.stderr.write("nothing was removed\n")
        else:
            removed = [resource_json(resource) for resource in inventory.resources]
            last = converge(session, inventory, buckets, records=options.records, everyones=options.everyones)
            new = [note for note in last.notes if note not in inventory.notes]
            tell_notes(new)
            inventory.notes += new
            inventory.missed = last.missed
    if options.json:
        told = {
            "found": [resource_json(resource) for resource in inventory.resources],
            "removed": removed,
            "notes": inventory.notes,
            "not_looked_at": inventory.missed,
        }
        sys.stdout.write(to_json(told, indent=2) + "\n")
    elif removed:
        what = "everything visible was removed; see the notes" if inventory.missed else "everything was removed"
        sys.stderr.write(f"{what}\n")
    return DONE


def refuse_others(session: Session, inventory: Inventory) -> None:
    """Raises AwsError while a job runs that somebody else started, or whose tags do not say who did."""
    others = [
        f"{resource.name} is running and {_started(resource.data['user'])}"
        for resource in inventory.resources
        if resource.kind == "training job" and resource.data["user"] != session.user
    ]
    if others:
        raise AwsError(f"{'; '.join(others)}; wait until it ends, or give --everyones to remove everything")


def _started(user: str) -> str:
    return f"was started by {user}" if user else "does not say who started it (it has no tag wrn-user)"


def tell(inventory: Inventory, session: Session) -> None:
    if inventory.resources:
        sys.stderr.write(resource_table(inventory.resources) + "\n")
    else:
        what = "no visible wrn resources" if inventory.missed else "no wrn resources"
        sys.stderr.write(f"{what} in account {session.account}, {session.region}\n")
    notes = list(inventory.notes)
    if inventory.finished_jobs and not any(resource.kind == "record" for resource in inventory.resources):
        notes.append(
            f"SageMaker's list keeps the records of {inventory.finished_jobs} finished job(s); they cost nothing; "
            "--records removes them too"
        )
    tell_notes(notes)


def tell_notes(notes: Iterable[str]) -> None:
    sys.stderr.write("".join(f"note: {note}\n" for note in notes))


def converge(
    session: Session,
    inventory: Inventory,
    buckets: Sequence[str],
    *,
    records: bool = False,
    everyones: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Inventory:
    """Remove until nothing is left; returns the last inventory. Raises AwsError listing what could not be removed."""
    faults: list[str] = []
    for number in range(ROUNDS):
        if number:
            sleep(PAUSE_SECONDS)
            if not everyones:  # one may have been started since
                refuse_others(session, inventory)
        faults = remove(session, inventory.resources, lambda text: print_line(text))
        inventory = take_inventory(session, buckets=buckets, records=records)
        if not inventory.resources:
            return inventory
    left = [f"{resource.kind} {resource.name} is still there" for resource in inventory.resources]
    raise AwsError("\n".join([*(faults or left), "fix that and repeat `wrn teardown`, which continues from there"]))


def print_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
