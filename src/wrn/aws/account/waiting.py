"""Requests that AWS does not answer: a notice after some seconds, and an end to their repetition.

boto3 by itself waits for a minute per attempt and repeats it several times, without a word.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
"""How long an attempt waits for a connection, and for each piece of the answer."""

NOTICE_SECONDS = 5.0

SLOWEST = 2**17
"""Bytes per second of a slow connection: so long a request or an answer may be on its way without being late."""

ATTEMPTS = 2
"""Of a request that gets no answer at all; one only while nothing else was answered since the last such request.
Refusals and throttling are answers: boto3 repeats those as often as the client's configuration says."""

_KEY = "wrn_waiting"


@dataclass
class _Request:
    """A request on its way; times by the watch's clock. attempts: how many it gets, however long each takes."""

    service: str
    operation: str
    region: str
    attempts: int
    begun: float
    until: float
    attempt: float
    thread: int = field(default_factory=threading.get_ident)
    timer: threading.Timer | None = None

    @property
    def place(self) -> tuple[str, str]:
        return self.service, self.region

    @property
    def where(self) -> str:
        return self.service if self.region in ("", "aws-global") else f"{self.service} in {self.region}"


class Watch:
    """Watches all requests of the sessions it is registered with, from any thread.

    on_message: gets the notices, which are for the person who waits; by default nobody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_message: Callable[[str], None] | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._underway: dict[int, _Request] = {}
        self._late: dict[int, _Request] = {}
        self._unanswered = False

    @property
    def is_late(self) -> bool:
        """Whether some request is waiting for longer than NOTICE_SECONDS right now."""
        return bool(self._late)

    def register(self, events: Any) -> None:
        """events: those of a boto3 session; its clients take them over, those that it makes to log in included."""
        events.register("request-created", self._sent)
        events.register("needs-retry", self._attempted)
        events.register("after-call", self._answered)
        events.register("after-call-error", self._failed)

    @contextlib.contextmanager
    def reading(self, service: str, region: str, operation: str, size: int) -> Iterator[None]:
        """While the body of an answer, of so many bytes, is read."""
        now = self._clock()
        request = _Request(service, operation, region, 1, now, now + size / SLOWEST + READ_SECONDS, now)
        self._expect(request, size)
        try:
            yield
        finally:
            self._settle(request)

    def abandon(self) -> None:
        """Ctrl-C ended the requests of this thread; botocore reports errors only."""
        mine = [request for request in [*self._underway.values()] if request.thread == threading.get_ident()]
        for request in mine:
            self._settle(request)

    def _sent(self, request: Any, event_name: str, **_: Any) -> None:
        """An attempt is sent, after it was signed: somebody who is asked for a code is not waiting for AWS."""
        context, now = request.context, self._clock()
        if _KEY in context:
            context[_KEY].attempt = now
            return
        service, operation = event_name.split(".")[1:]
        config = context["client_config"]
        attempts = min(1 if self._unanswered else ATTEMPTS, (config.retries or {}).get("total_max_attempts", ATTEMPTS))
        size = _size(request)
        until = now + attempts * (config.connect_timeout + config.read_timeout + size / SLOWEST)
        context[_KEY] = _Request(service, operation, context.get("client_region") or "", attempts, now, until, now)
        self._expect(context[_KEY], size)

    def _attempted(
        self, request_dict: dict[str, Any], attempts: int, caught_exception: Exception | None = None, **_: Any
    ) -> None:
        """Raises the error of an attempt without an answer if another one like it would last beyond the limit."""
        waiting, now = request_dict.get("context", {}).get(_KEY), self._clock()
        if caught_exception is None or waiting is None or attempts < waiting.attempts:
            return
        if now + (now - waiting.attempt) > waiting.until:
            raise caught_exception

    def _answered(self, context: dict[str, Any], **_: Any) -> None:
        self._unanswered = False
        if waiting := context.pop(_KEY, None):
            self._settle(waiting, answered=True)

    def _failed(self, context: dict[str, Any], **_: Any) -> None:
        if waiting := context.pop(_KEY, None):
            self._unanswered = True
            self._settle(waiting)

    def _expect(self, request: _Request, size: int) -> None:
        request.timer = threading.Timer(NOTICE_SECONDS + size / SLOWEST, self._notice, [request])
        request.timer.daemon = True
        with self._lock:
            self._underway[id(request)] = request
        request.timer.start()

    def _settle(self, request: _Request, *, answered: bool = False) -> None:
        assert request.timer is not None
        request.timer.cancel()
        with self._lock:
            self._underway.pop(id(request), None)
            was_late = self._late.pop(id(request), None) is not None
            others = any(other.place == request.place for other in self._late.values())
        if answered and was_late and not others:
            self._tell(f"AWS answers again ({request.where})")

    def _notice(self, request: _Request) -> None:
        with self._lock:
            if id(request) not in self._underway:
                return  # it was answered just now
            known = any(other.place == request.place for other in self._late.values())
            self._late[id(request)] = request
        if known:
            return  # one of several requests to the same place
        now = self._clock()
        moment = time.strftime("%H:%M:%S", time.localtime(time.time() + request.until - now))
        self._tell(
            f"AWS ({request.where}) has not answered {request.operation} for {now - request.begun:.0f} s; it is tried "
            f"until {moment} at the latest, and Ctrl-C stops"
        )

    def _tell(self, text: str) -> None:
        if self.on_message is not None:
            self.on_message(text)


def _size(request: Any) -> int:
    """Bytes of a request's body, also of one that botocore wraps to add a checksum."""
    from botocore.utils import determine_content_length

    wrapped = request.headers.get("X-Amz-Decoded-Content-Length")
    return int(wrapped or determine_content_length(request.data) or 0)


WATCH = Watch()
"""Of the whole process, like boto3's sessions."""
