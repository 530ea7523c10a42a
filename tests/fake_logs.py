"""A stand-in for the logs of CloudWatch, at least as awkward: late lines, empty pages, throttling, lines all equal."""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator
from typing import Any

from wrn.aws.account.errors import NotThere, Throttled


class FakeLogs:
    """What `LogFollower` needs of a session. Tokens are places in time, so late lines fall behind them, as on AWS."""

    def __init__(self, *, page: int = 10_000, seed: int | None = None, throttle: float = 0.0) -> None:
        self.streams: dict[str, list[tuple[int, int, str]]] = {}
        self.requests = 0
        self._page = page
        self._chance = random.Random(seed) if seed is not None else None
        self._throttle = throttle
        self._arrived = 0

    def write(self, stream: str, timestamp: int, message: str) -> None:
        """A line arrives now, whatever its time stamp."""
        self._arrived += 1
        bisect.insort(self.streams.setdefault(stream, []), (timestamp, self._arrived, message))

    def call(self, service: str, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        assert (service, operation) == ("logs", "GetLogEvents")
        assert request is not None
        self._hinder()
        lines = self.streams[request["logStreamName"]]
        where = (request["startTime"], 0, "")
        if "nextToken" in request:
            timestamp, number = map(int, request["nextToken"].split("/"))
            where = (timestamp, number + 1, "")
        first = bisect.bisect_left(lines, where)
        size = self._page
        if self._chance is not None:
            size = self._chance.choice((0, 1, size))
        found = lines[first : first + size]
        if found:
            token = f"{found[-1][0]}/{found[-1][1]}"
        elif first < len(lines):  # an empty page that is not the end: the token moves all the same
            timestamp, number, _ = lines[first]
            token = f"{timestamp}/{number - 1}"
            if token == request.get("nextToken"):
                return self.call(service, operation, request)
        else:
            token = request.get("nextToken", f"{request['startTime']}/0")
        events = [{"timestamp": line[0], "message": line[2], "ingestionTime": line[1]} for line in found]
        return {"events": events, "nextForwardToken": token, "nextBackwardToken": "b"}

    def pages(self, service: str, operation: str, key: str, request: dict[str, Any] | None = None) -> Iterator[Any]:
        assert operation == "DescribeLogStreams"
        assert request is not None
        self._hinder()
        if not self.streams:
            raise NotThere("DescribeLogStreams: the log group does not exist")
        for name in sorted(self.streams):
            if name.startswith(request["logStreamNamePrefix"]):
                yield {"logStreamName": name}

    def _hinder(self) -> None:
        self.requests += 1
        if self._chance is not None and self._chance.random() < self._throttle:
            raise Throttled("GetLogEvents: Rate exceeded")
