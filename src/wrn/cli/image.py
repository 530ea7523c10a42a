"""`wrn image`: build our own training image, and push it to the account's registry."""

from __future__ import annotations

import argparse
import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence

from wrn.aws.imaging.ecr import build, push, pushing_policy
from wrn.aws.session import Session
from wrn.cli.aws_flags import aws_parser, region_of, with_session
from wrn.cli.deploy_flags import UNKNOWN_ACCOUNT
from wrn.config.layers import recipe_root
from wrn.errors import DONE, AwsError


def main(arguments: Sequence[str]) -> int:
    parser = aws_parser(
        "image",
        "Build the image of the Dockerfile with docker, podman or finch; push it to the account's registry (ECR). "
        "Its tag is made of its content: the same image is built and sent once.",
        "build | push [--region R] [--profile P] [--print-policy] [--account ID] [--json]",
    )
    parser.add_argument("action", choices=("build", "push"), help="build: here alone, with no account; push: both")
    parser.add_argument(
        "--print-policy", action="store_true", help="print the rights that pushing takes, as a policy, and push nothing"
    )
    parser.add_argument("--account", type=account, metavar="ID", help="with --print-policy: whose registry it is")
    options = parser.parse_args(arguments)
    if options.account and not options.print_policy:
        raise AwsError(
            "account: is for --print-policy; an image is pushed to the account of the credentials (--profile)"
        )
    if options.print_policy:
        policy = pushing_policy(options.account or UNKNOWN_ACCOUNT, region_of(options))
        sys.stdout.write(json.dumps(policy, indent=2) + "\n")
        if not options.account:
            say(f"{UNKNOWN_ACCOUNT} stands for your account: give --account")
        return DONE
    if options.action == "push":
        return with_session(options, _push)
    image = build(recipe_root(), say)
    return _tell(options, image, f"wrn image push{f' --region {options.region}' if options.region else ''}")


def _push(options: Namespace, session: Session) -> int:
    image = push(session, recipe_root(), say)
    return _tell(options, image, f"wrn deploy --image-uri auto --region {session.region}")


def _tell(options: Namespace, image: str, following: str) -> int:
    sys.stdout.write(json.dumps({"image": image}) + "\n" if options.json else f"{image}\n")
    if not options.json:
        say(f"next: {following}")
    return DONE


def account(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text):
        raise argparse.ArgumentTypeError(f"{text} is not an account; give its twelve digits")
    return text


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
