"""One boto3 session per profile for the whole process, so that a person is asked for an MFA code once.

The credentials of an assumed role are kept in the aws command's own cache, until they expire: the next command, of
either program, asks for no code.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from wrn.aws.account import waiting
from wrn.aws.account.errors import NoCredentials, explain
from wrn.errors import AwsError
from wrn.text import shell_command

CACHE = Path(".aws/cli/cache")
"""In the user's folder."""

ENTRIES = 3
"""How often a person may mistype a code."""


_sessions: dict[str | None, Any] = {}


def boto_session(profile: str | None, region: str | None) -> Any:
    """boto3's session of a profile (None: the environment's), always the same.

    region: where a role is assumed, if the profile names none. Clients may be in any other.
    Raises NoCredentials for an unknown profile, AwsError if boto3 is missing.
    """
    if profile not in _sessions:
        _sessions[profile] = new_session(profile, region)
    return _sessions[profile]


def use_session(profile: str | None, session: Any) -> None:
    """From now on this is the session of the profile."""
    _sessions[profile] = session


def forget_sessions() -> None:
    """As in a new process: the files of the configuration and the credentials are read again."""
    _sessions.clear()


def new_session(profile: str | None, region: str | None, *, may_ask: bool = True) -> Any:
    """A session that has just read AWS's files. may_ask: whether a person is asked for a code, if one is needed."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.credentials import create_credential_resolver
        from botocore.session import Session
    except ImportError:
        raise AwsError("boto3 is not installed; install it with: pip install 'wrn-cifar[aws]'") from None
    try:
        session = Session(profile=profile)
        # For the clients that botocore makes to log in, too.
        limits = Config(connect_timeout=waiting.CONNECT_SECONDS, read_timeout=waiting.READ_SECONDS)
        session.set_default_client_config(limits)
        place = session.get_config_variable("region") or region
        resolver = create_credential_resolver(session, cache=_cache(), region_name=place)
        # getpass without a terminal ends in a warning and an EOFError; no argument of botocore's takes another prompt.
        prompt = functools.partial(ask_for_code, profile=profile)
        resolver.get_provider("assume-role")._prompter = prompt if may_ask else no_code
        session.register_component("credential_provider", resolver)
        made = boto3.Session(botocore_session=session)
        waiting.WATCH.register(made.events)
        return made
    except Exception as error:
        raise explain(error, "log in") from None


def evict(credentials: Any) -> None:
    """Remove credentials of an assumed role that AWS refused from the cache, where every command would find them."""
    with suppress(Exception):  # botocore's, if they have expired: then the cache is not asked for them either
        key = credentials.get_frozen_credentials().access_key
        for path in (Path.home() / CACHE).glob("*.json"):
            if json.loads(path.read_text()).get("Credentials", {}).get("AccessKeyId") == key:
                path.unlink()


def no_code(prompt: str) -> str:
    """In place of the prompt, where nobody is asked."""
    raise NoCredentials("log in: the profile needs an MFA code")


def ask_for_code(prompt: str, profile: str | None = None) -> str:
    """The six digits that a person enters. Raises NoCredentials without a terminal, or without a code."""
    if not _has_terminal():
        raise NoCredentials(
            "log in: the profile needs an MFA code, and there is no terminal to ask on; first run at a terminal: "
            f"aws sts get-caller-identity{f' --profile {shell_command(profile)}' if profile else ''}"
        )
    for attempt in range(ENTRIES):
        with suppress(EOFError):
            code = getpass.getpass(prompt if not attempt else f"A code is six digits. {prompt}").strip()
            if re.fullmatch(r"\d{6}", code, re.ASCII):
                return code
    raise NoCredentials("log in: no MFA code of six digits was entered; repeat the command")


def _has_terminal() -> bool:
    """Whether getpass has somebody to ask: it prefers the terminal to a redirected standard input."""
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
        return True
    return sys.stdin is not None and sys.stdin.isatty()


def _cache() -> Any:
    """The aws command's cache of assumed roles; one in memory for a user without a folder."""
    from botocore.utils import JSONFileCache

    class Cache(JSONFileCache):  # type: ignore[misc]  # botocore has no types
        def __setitem__(self, key: str, value: Any) -> None:
            with suppress(OSError):  # a folder that cannot be written: the next command asks again
                super().__setitem__(key, value)

    try:
        return Cache(str(Path.home() / CACHE))
    except RuntimeError:
        return {}
