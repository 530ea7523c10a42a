"""`wrn image`: build wrn's own training image, and push it to the account's registry."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from wrn.aws.account.session import Session
from wrn.aws.container.ecr import build, push, pushing_policy
from wrn.aws.s3.code_archive import source_root
from wrn.cli.aws_flags import add_policy_flags, aws_parser, check_account, print_policy, with_session
from wrn.cli.report import say
from wrn.errors import DONE
from wrn.strict_json import to_json
from wrn.text import shell_command


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "image",
        "Build the image of the Dockerfile with docker, podman or finch; push it to the account's registry (ECR). "
        "Its tag is a hash of its content: the same image is built and pushed only once.",
        "build | push [--region R] [--profile P] [--print-policy] [--account ID] [--json]",
    )
    parser.add_argument(
        "action", choices=("build", "push"), help="build: only build, without an account; push: build and push"
    )
    add_policy_flags(parser, "pushing needs")
    options = parser.parse_args(arguments)
    check_account(options)
    if options.print_policy:
        return print_policy(options, pushing_policy)
    if options.action == "push":
        return with_session(options, _push)
    image = build(source_root(), say)
    where = ["--region", options.region] if options.region else []
    return _tell(options, image, shell_command("wrn", "image", "push", *where))


def _push(options: Namespace, session: Session) -> int:
    image = push(session, source_root(), say)
    return _tell(options, image, f"wrn deploy --image-uri auto --region {session.region}")


def _tell(options: Namespace, image: str, following: str) -> int:
    sys.stdout.write(to_json({"image": image}) + "\n" if options.json else f"{image}\n")
    if not options.json:
        say(f"next: {following}")
    return DONE
