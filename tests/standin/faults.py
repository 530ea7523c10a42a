"""What can go wrong at AWS, at a test's wish; and the log of every call."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from standin.actions import actions_of
from standin.wire import AwsFault, Call, Environ

DEFAULT_QUOTA = 4.0

ACCOUNT = "123456789012"
USER = f"arn:aws:iam::{ACCOUNT}:user/tester"


class BrokenConnection(Exception):
    """The connection was closed in the middle; there is no answer."""


class Faults:
    """All controls in one object. Calls of the platform itself are neither logged here nor disturbed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.calls: list[Call] = []
            self.by_jobs: list[Call] = []
            self.by_platform: list[Call] = []
            self._every, self._count = 0, 0
            self._expired = False
            self._denied: set[str] = set()
            self._broken: dict[str, int] = {}
            self._refused: deque[str | None] = deque()
            self._quotas: dict[tuple[str, bool], float] = {}
            self.withheld = False

    def throttle(self, every: int) -> None:
        """Every n-th call, whatever it is, answers that there were too many. 0: none."""
        with self._lock:
            self._every, self._count = every, 0

    def expire_token(self, expired: bool = True) -> None:
        self._expired = expired

    def deny(self, *actions: str) -> None:
        """Calls that need one of these rights (s3:PutObject, sagemaker:CreateTrainingJob) are refused."""
        self._denied |= set(actions)

    def allow(self, *actions: str) -> None:
        self._denied -= set(actions)

    def break_connection(self, operation: str, times: int = 1) -> None:
        """The next calls of this operation (s3:UploadPart) lose their connection after the request."""
        with self._lock:
            self._broken[operation] = times

    def refuse_capacity(self, times: int, instance_type: str | None = None) -> None:
        """The next jobs (of this instance type) fail for want of machines."""
        with self._lock:
            self._refused += [instance_type] * times

    def withhold_capacity(self, withheld: bool = True) -> None:
        """While it lasts, spot jobs wait for machines, as they do on AWS until MaxWaitTimeInSeconds."""
        self.withheld = withheld

    def quota(self, instance_type: str, instances: float, spot: bool | None = None) -> None:
        """How many instances of a type may train at once (None: both on demand and spot)."""
        with self._lock:
            for kind in (False, True) if spot is None else (spot,):
                self._quotas[instance_type, kind] = float(instances)

    def quota_of(self, instance_type: str, spot: bool) -> float:
        return self._quotas.get((instance_type, spot), DEFAULT_QUOTA)

    def takes_refusal(self, instance_type: str) -> bool:
        """Whether this job is one that gets no machines."""
        with self._lock:
            for wanted in (instance_type, None):
                if wanted in self._refused:
                    self._refused.remove(wanted)
                    return True
            return False

    def arrives(self, call: Call, environ: Environ) -> None:
        """Note the call. Raises AwsFault or BrokenConnection where it is to go wrong."""
        with self._lock:
            if call.by == "platform":
                self.by_platform.append(call)
                return
            (self.by_jobs if call.by == "job" else self.calls).append(call)
            self._count += 1
            if self._every and self._count % self._every == 0:
                raise AwsFault("ThrottlingException", "Rate exceeded")
            if self._expired:
                raise AwsFault("ExpiredTokenException", "The security token included in the request is expired", 403)
            for action in actions_of(call):
                if action in self._denied:
                    raise AwsFault(
                        "AccessDeniedException",
                        f"User: {USER} is not authorized to perform: {action} on resource: * "
                        f"because no identity-based policy allows the {action} action",
                    )
            if self._broken.get(str(call), 0) > 0:
                self._broken[str(call)] -= 1
                raise BrokenConnection(str(call))

    def actions(self, by: str = "client") -> set[str]:
        """The rights, as a policy names them, that calls so far have needed: a client's, a "job"'s own, or those of
        the "platform", which acts with the job's role."""
        with self._lock:
            calls = {"client": self.calls, "job": self.by_jobs, "platform": self.by_platform}[by]
            return {action for call in calls for action in actions_of(call)}

    def sent(self, operation: str) -> list[Any]:
        """The requests of this operation of SageMaker's, in order."""
        with self._lock:
            return [call.request for call in self.calls if (call.service, call.operation) == ("sagemaker", operation)]
