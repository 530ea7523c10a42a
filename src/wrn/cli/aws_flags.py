"""What all commands that use an AWS account share: --region, --profile, --json, --debug, and confirmations."""

from __future__ import annotations

import collections
import sys
from argparse import Namespace
from collections.abc import Callable

from wrn.aws.account.policies import Document
from wrn.aws.account.session import Session, configured_region
from wrn.aws.account.waiting import WATCH
from wrn.aws.jobs.options import DeployOptions
from wrn.cli.deploy_flags import UNKNOWN_ACCOUNT, account
from wrn.cli.values import refusal
from wrn.config.flags import Parser
from wrn.errors import DONE, AwsError
from wrn.strict_json import to_json
from wrn.text import shell_command


def aws_parser(name: str, description: str, usage: str) -> Parser:
    """A parser with the flags of all these commands."""
    parser = Parser(prog=f"wrn {name}", description=description, usage=f"wrn {name} {usage}", allow_abbrev=False)
    group = parser.add_argument_group("Account")
    group.add_argument("--region", metavar="R", help="AWS region [$AWS_REGION, the profile's, or us-east-1]")
    group.add_argument("--profile", metavar="P", help="AWS profile to use [$AWS_PROFILE, then the default]")
    group.add_argument("--json", action="store_true", help="print JSON and nothing else on standard output")
    group.add_argument("--debug", action="store_true", help="list the requests sent, and show where an error arose")
    return parser


def add_policy_flags(parser: Parser, what: str) -> None:
    """--print-policy and --account, which need no credentials. what: what needs the permissions; it is not done."""
    parser.add_argument("--print-policy", action="store_true", help=f"print the permissions that {what}, as a policy")
    parser.add_argument("--account", type=_account, metavar="ID", help="with --print-policy: the 12-digit account ID")


def _account(text: str) -> str:
    try:
        return account(text)
    except ValueError:
        raise refusal(text, "the 12 digits of an account") from None


def print_policy(options: Namespace, policy: Callable[[str, str], Document]) -> int:
    """Print the policy for an account and a region."""
    sys.stdout.write(to_json(policy(options.account or UNKNOWN_ACCOUNT, region_of(options)), indent=2) + "\n")
    if not options.account:
        sys.stderr.write(f"{UNKNOWN_ACCOUNT} stands for your account: give --account\n")
    return DONE


def check_account(options: Namespace) -> None:
    """Raises AwsError if --account is given without --print-policy."""
    if options.account and not options.print_policy:
        raise AwsError("account: only goes with --print-policy; otherwise the credentials decide (--profile)")


def open_session(options: Namespace) -> Session:
    """The account that the flags and the environment name; AWS_ENDPOINT_URL is read by boto3 itself."""
    return Session(region=region_of(options), profile=options.profile)


def region_of(options: Namespace) -> str:
    """The region, chosen as in `wrn deploy`."""
    return options.region or configured_region(options.profile) or DeployOptions.region


def with_session(options: Namespace, run: Callable[[Namespace, Session], int]) -> int:
    """Run a command in the account that its flags name. With --debug, report its requests however it ends."""
    WATCH.on_message = notice
    session = open_session(options)
    try:
        session.log_in()
        return run(options, session)
    finally:
        report_requests(options, session)


def notice(text: str) -> None:
    """A line for whoever waits, from any thread; a line of progress is redrawn below it."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{text}\n")
    sys.stderr.flush()


def where(session: Session) -> str:
    """The flags, each after a space, that point another command at the same place; empty if the defaults do."""
    usual = configured_region(session.profile) or DeployOptions.region
    region = f" --region {session.region}" if session.region != usual else ""
    return region + (f" --profile {shell_command(session.profile)}" if session.profile else "")


def may_run(name: str, session: Session) -> str:
    """What to say if it is not known whether a job was started, as it would be costing money."""
    return f"the job {name} may be running: see wrn status {name}{where(session)}, or wrn stop it"


def report_requests(options: Namespace, session: Session) -> None:
    """With --debug: how many requests were sent, by kind."""
    if options.debug:
        kinds = collections.Counter(f"{service} {operation}" for service, operation in session.sent)
        listed = ", ".join(f"{kind}{f' x {number}' if number > 1 else ''}" for kind, number in kinds.items())
        sys.stderr.write(f"{len(session.sent)} requests to AWS: {listed or 'none'}\n")


def at_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, *, yes: bool, otherwise: str) -> bool:
    """Ask for confirmation on the terminal. `yes`: it was given as a flag.

    Raises AwsError, ending in `otherwise`, if there is no terminal.
    """
    if yes:
        return True
    if not at_terminal():
        raise AwsError(f"no terminal to confirm on; {otherwise}")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
