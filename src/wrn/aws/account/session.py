"""The only access to AWS: clients for a region and a profile; every request is counted, every error explained.

All requests to the account go through `Session.call` (or through boto3's own file transfer, with a client from
here), so that retries, the endpoint for tests (AWS_ENDPOINT_URL, which boto3 reads itself) and `--debug` apply to all.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from wrn.aws.account import waiting
from wrn.aws.account.credentials import boto_session, evict, new_session, use_session
from wrn.aws.account.errors import CredentialsRefused, Unreachable, certificate_reason, explain
from wrn.aws.account.names import user_of
from wrn.config.paths import aws_region
from wrn.errors import AwsError

ATTEMPTS, RETRIES = 8, "adaptive"
"""Per request, with growing waits in between; the request rate drops when throttled, which is normal."""

AGAIN_SECONDS = 30.0
"""So long no request is sent to where one has just got no answer, after all of its attempts."""

FROM_FILES = ("shared-credentials-file", "config-file", "assume-role")
"""botocore's names for credentials that are keys in AWS's files, or a role that such keys assume. botocore reads the
files only once; all others it fetches again by itself."""

CONNECTIONS = 16
"""Kept open: as many as an upload of many files uses at once."""


class Session:
    """An account in one region. Sends nothing until asked to.

    region: None for the one of the environment or the profile. profile: None for the environment's.
    sent: every request that went out, as (service, operation), retries included: what `--debug` prints.
    """

    def __init__(self, *, region: str | None = None, profile: str | None = None, boto: Any = None) -> None:
        """boto: boto3's session to use instead of the process's one of the profile."""
        self._boto = boto or boto_session(profile, region)
        from botocore.config import Config

        self.sent: list[tuple[str, str]] = []
        self._config = Config(
            retries={"mode": RETRIES, "total_max_attempts": ATTEMPTS},
            connect_timeout=waiting.CONNECT_SECONDS,
            read_timeout=waiting.READ_SECONDS,
            max_pool_connections=CONNECTIONS,
            user_agent_extra="wrn",
            # Checksums on every upload; SHA-256 is requested where the content matters.
            request_checksum_calculation="when_supported",
        )
        self._region = region or self._boto.region_name
        self.profile = profile
        self._clients: dict[str, Any] = {}
        self._elsewhere: dict[str, Session] = {}
        self._unreachable: dict[tuple[str, str | None], tuple[float, Unreachable]] = {}
        self._lock = threading.RLock()

    @property
    def region(self) -> str:
        """Raises AwsError if none is known."""
        if not self._region:
            raise AwsError("no region is known; give --region, or set AWS_REGION")
        return str(self._region)

    def in_region(self, region: str) -> Session:
        """The same caller elsewhere; requests are counted together."""
        if region == self.region:
            return self
        if region not in self._elsewhere:
            other = Session(region=region, profile=self.profile)
            other.sent = self.sent
            other._unreachable = self._unreachable
            self._elsewhere[region] = other
        return self._elsewhere[region]

    def log_in(self) -> None:
        """Get the credentials now, so that a person is asked for a code before anything else happens.

        Raises NoCredentials if that fails. If there are none, the first request says so.
        """
        try:
            found = self._boto.get_credentials()
            if found is not None:
                found.get_frozen_credentials()
        except Exception as error:
            raise explain(error, "log in") from None

    @cached_property
    def caller(self) -> dict[str, str]:
        """Account and ARN of the credentials. Raises NoCredentials if there are no valid ones."""
        answer = self.call("sts", "GetCallerIdentity")
        return {"account": str(answer["Account"]), "arn": str(answer["Arn"])}

    @property
    def account(self) -> str:
        """Twelve digits."""
        return self.caller["account"]

    @property
    def user(self) -> str:
        """The owner of the credentials, as wrn's tag on jobs gives it."""
        return user_of(self.caller["arn"])

    def client(self, service: str) -> Any:
        """boto3's client, created once."""
        with self._lock:
            if service not in self._clients:
                try:
                    client = self._boto.client(service, region_name=self._region, config=self._config)
                except Exception as error:
                    raise explain(error, service) from None
                # Fires for each attempt, so that retries are counted too.
                client.meta.events.register("request-created", self._count(service))
                client.meta.events.register("needs-retry", _refuse_certificate)
                self._clients[service] = client
            return self._clients[service]

    def call(self, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to one request, named as AWS does: ("sagemaker", "CreateTrainingJob", {...}).

        Raises the matching exception of `wrn.aws.account.errors`, all of them AwsErrors.
        """
        used = self._boto
        try:
            return self._send(service, operation, request)
        except CredentialsRefused:
            if not self._has_new_keys(used):
                raise
            return self._send(service, operation, request)

    def pages(self, service: str, operation: str, key: str, request: dict[str, Any] | None = None) -> Iterator[Any]:
        """The entries under `key` on all pages of an answer. Raises as `call` does."""
        used, begun = self._boto, False
        try:
            for entry in self._entries(service, operation, key, request):
                begun = True
                yield entry
        except CredentialsRefused:
            if begun or not self._has_new_keys(used):
                raise
            yield from self._entries(service, operation, key, request)

    def _send(self, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        method = getattr(self.client(service), snake_case(operation))
        with self._explained(service, operation):
            return dict(method(**(request or {})))

    def _entries(self, service: str, operation: str, key: str, request: dict[str, Any] | None) -> Iterator[Any]:
        pages = iter(self.client(service).get_paginator(snake_case(operation)).paginate(**(request or {})))
        while True:
            with self._explained(service, operation):
                page = next(pages, None)
            if page is None:
                return
            yield from page.get(key) or ()

    @contextlib.contextmanager
    def _explained(self, service: str, operation: str) -> Iterator[None]:
        """Raises botocore's errors as those of account/errors.py. What has just got no answer is not tried again."""
        place = service, self._region
        failed, error = self._unreachable.get(place, (float("-inf"), None))
        if error is not None and time.monotonic() < failed + AGAIN_SECONDS:
            raise Unreachable(f"{operation}: not tried, as AWS has just not answered; {error}")
        try:
            yield
        except Exception as raised:
            found = explain(raised, operation)
            if isinstance(found, Unreachable):
                self._unreachable[place] = (time.monotonic(), found)
            raise found from None
        except BaseException:
            waiting.WATCH.abandon()
            raise
        self._unreachable.pop(place, None)

    def _has_new_keys(self, used: Any) -> bool:
        """Whether there are other keys than those of `used`, boto3's session whose request was refused.

        Keys are rotated while a job is followed for hours: AWS's files are read once more, and what they hold now is
        used from here on, if it belongs to the same account.
        """
        with self._lock:
            if self._boto is not used:
                return True  # another thread has just read them
            latest = boto_session(self.profile, self._region)
            if latest is used:  # else the session of another region has just read them
                latest = self._read_keys(used)
            if latest is None or not self._is_of_this_account(latest):
                return False
            use_session(self.profile, latest)
            self._boto, self._clients = latest, {}
            return True

    def _read_keys(self, used: Any) -> Any:
        """boto3's session with the keys that AWS's files hold now; None if they are those of `used`."""
        old = used.get_credentials()
        if old is None or old.method not in FROM_FILES:
            return None
        if old.method == "assume-role":
            evict(old)
        try:
            # Nobody may be there to enter a code; another command may have got the credentials of a new one.
            boto = new_session(self.profile, self._region, may_ask=False)
            Session(region=self._region, profile=self.profile, boto=boto).log_in()
        except AwsError:
            return None
        new = boto.get_credentials()
        same = new is None or (old.method != "assume-role" and _same_keys(old, new))
        return None if same else boto

    def _is_of_this_account(self, boto: Any) -> bool:
        """Whether keys are those of the account that is in use, if that is known."""
        known = self.__dict__.get("caller")
        if not known:
            return True
        other = Session(region=self._region, profile=self.profile, boto=boto)
        try:
            return bool(other._send("sts", "GetCallerIdentity")["Account"] == known["account"])
        except AwsError:
            return False

    def _count(self, service: str) -> Any:
        def count(event_name: str, **_: Any) -> None:
            self.sent.append((service, event_name.rpartition(".")[2]))

        return count


def _same_keys(old: Any, new: Any) -> bool:
    return bool(old.get_frozen_credentials() == new.get_frozen_credentials())


def _refuse_certificate(caught_exception: Exception | None = None, **_: Any) -> None:
    """A certificate that was not accepted will not be: botocore would try it for half a minute, without a word."""
    if caught_exception is not None and certificate_reason(caught_exception):
        raise caught_exception


def configured_region(profile: str | None = None) -> str | None:
    """The region named by the environment or by AWS's configuration file. Raises NoCredentials for an unknown profile.

    AWS_REGION takes precedence; boto3 does not read it, AWS's other tools do.
    """
    if found := aws_region():
        return found
    try:
        import botocore.session
    except ImportError:
        return None
    try:
        return botocore.session.Session(profile=profile).get_config_variable("region") or None
    except Exception as error:
        raise explain(error, "log in") from None


def snake_case(operation: str) -> str:
    """`CreateTrainingJob` as `create_training_job`, the name of boto3's method."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", operation).lower()
