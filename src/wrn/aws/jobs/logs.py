"""The log of a job, from several CloudWatch streams: each line once, in order, including those that arrive late.

CloudWatch returns a stream by timestamp, and a line may arrive after later ones were read; a token into the stream
would skip it. So a read always starts at a time: usually that of the newest line, periodically some minutes earlier,
and once the job has ended, the very beginning. Lines seen before are recognised by time, text *and how often they were
seen*, so that equal lines within a millisecond are neither lost nor repeated.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from wrn.aws.account.errors import NotThere
from wrn.aws.account.names import LOG_GROUP
from wrn.errors import AwsError

PAGES_AT_ONCE = 64
"""Pages per stream, of up to 1 MB or 10,000 lines each, before the next stream gets its turn."""

LATE_SECONDS, SWEEP_SECONDS = 300, 30
"""How late a line may be to be found by a sweep, and the time between sweeps; later ones are found at the end."""

LIST_SECONDS = 10
"""Time between searches for new streams: of hosts that start later, or again after an interruption."""


class Caller(Protocol):
    """The part of `wrn.aws.account.session.Session` that is needed here."""

    def call(self, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]: ...

    def pages(self, service: str, operation: str, key: str, request: dict[str, Any] | None = None) -> Iterable[Any]: ...


@dataclass(frozen=True)
class LogEvent:
    """A line. timestamp: milliseconds since 1970, UTC."""

    stream: str
    timestamp: int
    message: str

    @property
    def host(self) -> str:
        """`algo-1`."""
        return host_of(self.stream)


def host_of(stream: str) -> str:
    """`algo-1` of `job/algo-1-1700000000`."""
    return stream.rpartition("/")[2].rpartition("-")[0] or stream


@dataclass
class _Reading:
    """One pass through a stream, from `since` to its current end, page by page."""

    since: int
    token: str | None = None
    met: Counter[tuple[int, int]] = field(default_factory=Counter)


class StreamReader:
    """One stream: returns only lines not returned before. After a failed request, call again to retry."""

    def __init__(self, name: str, group: str = LOG_GROUP) -> None:
        self.name, self.group = name, group
        self.newest = 0
        self._seen: Counter[tuple[int, int]] = Counter()
        self._reading: _Reading | None = None

    @property
    def at_end(self) -> bool:
        """Whether the last pass reached the end of the stream."""
        return self._reading is None

    def read(self, session: Caller, sink: Callable[[list[LogEvent]], None], *, since: int, pages: int) -> None:
        """Pass `sink` the new lines from time `since` on, at most `pages` pages; the next call continues from there."""
        if self._reading is None:
            self._reading = _Reading(since)
        for _ in range(pages):
            if self._read_page(session, self._reading, sink):
                self._reading = None
                return

    def _read_page(self, session: Caller, reading: _Reading, sink: Callable[[list[LogEvent]], None]) -> bool:
        request: dict[str, Any] = {
            "logGroupName": self.group,
            "logStreamName": self.name,
            "startFromHead": True,
            "startTime": reading.since,
        }
        if reading.token:
            request["nextToken"] = reading.token
        try:
            answer = session.call("logs", "GetLogEvents", request)
        except AwsError as error:
            if reading.token and "nextToken" in str(error):
                # Tokens expire after a day: this machine slept. Lines already returned are known, so nothing repeats.
                self._reading = reading = _Reading(reading.since)
                return False
            raise
        sink(self._take(reading, answer.get("events") or ()))
        # An empty page is not the end; the end is reached when the token stays the same.
        ended = bool(answer.get("nextForwardToken") == reading.token)
        reading.token = answer.get("nextForwardToken")
        return ended or reading.token is None

    def _take(self, reading: _Reading, events: Iterable[dict[str, Any]]) -> list[LogEvent]:
        fresh = []
        for event in events:
            timestamp, message = event["timestamp"], event["message"]
            key = (timestamp, hash(message))
            reading.met[key] += 1
            if reading.met[key] > self._seen[key]:
                self._seen[key] += 1
                self.newest = max(self.newest, timestamp)
                fresh.append(LogEvent(self.name, timestamp, message))
        return fresh


class LogFollower:
    """All streams of a job. `poll` returns each line once; after an exception it can be called again."""

    def __init__(self, session: Caller, job: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._prefix = f"{job}/"
        self._clock = clock
        self._streams: dict[str, StreamReader] = {}
        self._ready: list[LogEvent] = []
        self._to_drain: deque[StreamReader] | None = None
        self._listed = self._swept = float("-inf")

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams found so far."""
        return tuple(self._streams)

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(map(host_of, self._streams))

    def poll(self) -> list[LogEvent]:
        """The new lines, by time; those of one stream in its order. Raises AwsError, without losing any lines."""
        now = self._clock()
        if now - self._listed >= LIST_SECONDS:
            self._find_streams()
            self._listed = now
        sweep = now - self._swept >= SWEEP_SECONDS
        for stream in [*self._streams.values()] if sweep else self._current():
            since = max(0, stream.newest - 1000 * LATE_SECONDS) if sweep else stream.newest
            stream.read(self._session, self._ready.extend, since=since, pages=PAGES_AT_ONCE)
        if sweep:
            self._swept = now
        return self._hand_out()

    def drain(self) -> list[LogEvent]:
        """All lines not returned yet, however late they arrived: reads everything again from the beginning.

        After an exception the next call continues where this one stopped.
        """
        if self._to_drain is None:
            self._find_streams()
            # An unfinished pass is completed first; then comes one from the beginning.
            unfinished = [stream for stream in self._streams.values() if not stream.at_end]
            self._to_drain = deque([*unfinished, *self._streams.values()])
        while self._to_drain:
            stream = self._to_drain[0]
            stream.read(self._session, self._ready.extend, since=0, pages=PAGES_AT_ONCE)
            if stream.at_end:
                self._to_drain.popleft()
        self._to_drain = None
        return self._hand_out()

    def _find_streams(self) -> None:
        request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": self._prefix}
        try:
            for entry in self._session.pages("logs", "DescribeLogStreams", "logStreams", request):
                name = entry["logStreamName"]
                if name.startswith(self._prefix) and name not in self._streams:
                    self._streams[name] = StreamReader(name)
        except NotThere:
            return  # the first job of an account: the log group is created with its first line

    def _current(self) -> list[StreamReader]:
        """The newest stream of each host: those from before an interruption are only read in sweeps."""
        latest: dict[str, StreamReader] = {}
        for name in sorted(self._streams, key=lambda name: (len(name), name)):
            latest[host_of(name)] = self._streams[name]
        unfinished = [stream for stream in self._streams.values() if not stream.at_end or not stream.newest]
        return list(dict.fromkeys([*latest.values(), *unfinished]))

    def _hand_out(self) -> list[LogEvent]:
        ready, self._ready = self._ready, []
        ready.sort(key=lambda event: event.timestamp)  # stable: the order within a stream stays
        return ready
