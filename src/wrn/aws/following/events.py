"""The log of a job, from several streams of CloudWatch: each line once, in order, also those that arrive late.

CloudWatch hands out a stream by time stamp, and a line may arrive after later ones were read; a token into the stream
would pass it over. So a reading always begins at a time: mostly at that of the newest line, now and then some minutes
earlier, at the end of the job at the very beginning. What was seen before is known by its time and text *and by how
often it was seen*, so that equal lines of one millisecond are neither lost nor repeated.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from wrn.aws.faults import NotThere
from wrn.errors import AwsError

GROUP = "/aws/sagemaker/TrainingJobs"
"""The log group of all training jobs of an account; a job's streams are `<job>/<host>-<moment>`."""

PAGES_AT_ONCE = 64
"""Of a stream, up to 1 MB or 10,000 lines each, before others have their turn."""

LATE_SECONDS, SWEEP_SECONDS = 300, 30
"""Lines that are late by so much are looked for so often; those that are later still are found at the end."""

LIST_SECONDS = 10
"""How often new streams are looked for: of hosts that start later, and of those after an interruption."""


class Caller(Protocol):
    """What is needed of a `wrn.aws.session.Session`."""

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
    """One way through a stream, from `since` to its end as it then is, page by page."""

    since: int
    token: str | None = None
    met: Counter[tuple[int, int]] = field(default_factory=Counter)


class StreamReader:
    """One stream: hands out what it has not handed out before. A failed request is repeated by calling again."""

    def __init__(self, name: str, group: str = GROUP) -> None:
        self.name, self.group = name, group
        self.newest = 0
        self._seen: Counter[tuple[int, int]] = Counter()
        self._reading: _Reading | None = None

    @property
    def at_end(self) -> bool:
        """Whether the last reading came to the end of the stream."""
        return self._reading is None

    def read(self, session: Caller, sink: Callable[[list[LogEvent]], None], *, since: int, pages: int) -> None:
        """Give `sink` the new lines from time `since` on: at most so many pages; the next call goes on from there."""
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
                # Tokens live for a day: this machine slept. What was handed out before is known, so nothing repeats.
                self._reading = reading = _Reading(reading.since)
                return False
            raise
        sink(self._take(reading, answer.get("events") or ()))
        # An empty page is not the end; the end is where the token stays the same.
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
    """All streams of a job. `poll` hands out each line once; after an exception it can be called again."""

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
        """The names of those found so far."""
        return tuple(self._streams)

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(map(host_of, self._streams))

    def poll(self) -> list[LogEvent]:
        """What is new, by time; lines of one stream in its order. Raises AwsError; nothing is lost by that."""
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
        """All that is there and was not handed out yet, however late it came: once more from the very beginning.

        After an exception the next call goes on where this one was.
        """
        if self._to_drain is None:
            self._find_streams()
            # A reading under way is ended first; then comes one from the beginning.
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
        request = {"logGroupName": GROUP, "logStreamNamePrefix": self._prefix}
        try:
            for entry in self._session.pages("logs", "DescribeLogStreams", "logStreams", request):
                name = entry["logStreamName"]
                if name.startswith(self._prefix) and name not in self._streams:
                    self._streams[name] = StreamReader(name)
        except NotThere:
            return  # the first job of an account: its log group comes with its first line

    def _current(self) -> list[StreamReader]:
        """The newest stream of each host: those from before an interruption are read in sweeps alone."""
        latest: dict[str, StreamReader] = {}
        for name in sorted(self._streams, key=lambda name: (len(name), name)):
            latest[host_of(name)] = self._streams[name]
        unfinished = [stream for stream in self._streams.values() if not stream.at_end or not stream.newest]
        return list(dict.fromkeys([*latest.values(), *unfinished]))

    def _hand_out(self) -> list[LogEvent]:
        ready, self._ready = self._ready, []
        ready.sort(key=lambda event: event.timestamp)  # stable: the order within a stream stays
        return ready
