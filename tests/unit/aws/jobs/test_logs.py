"""The log of a job: whatever arrives in whatever order, each line comes out once."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count

import boto3
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_logs import FakeLogs
from wrn.aws.account.errors import Throttled
from wrn.aws.account.names import LOG_GROUP
from wrn.aws.account.session import Session
from wrn.aws.jobs.logs import SWEEP_SECONDS, LogEvent, LogFollower, host_of
from wrn.errors import AwsError

STREAMS = ("job/algo-1-100", "job/algo-2-100", "job/algo-1-200")


def told(events: list[LogEvent], stream: str) -> list[tuple[int, str]]:
    return [(event.timestamp, event.message) for event in events if event.stream == stream]


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[tuple[str, int, str]]]:
    """Rounds of lines as they arrive between two polls: few moments and few texts, so that many are equal."""
    line = st.tuples(st.sampled_from(STREAMS), st.integers(1, 6), st.sampled_from("ab"))
    return draw(st.lists(st.lists(line, max_size=8), max_size=8))


@settings(max_examples=200, deadline=None)
@given(rounds=arrivals(), page=st.integers(1, 4), seed=st.integers(0, 10**6), step=st.sampled_from((1, SWEEP_SECONDS)))
def test_each_line_comes_once_however_lines_arrive(
    rounds: list[list[tuple[str, int, str]]], page: int, seed: int, step: int
) -> None:
    logs = FakeLogs(page=page, seed=seed, throttle=0.2)
    clock = count(0, step)
    follower = LogFollower(logs, "job", clock=lambda: float(next(clock)))
    out: list[LogEvent] = []

    def until_done(look: object) -> list[LogEvent]:
        while True:
            try:
                return look()  # type: ignore[operator]
            except Throttled:
                continue

    for lines in rounds:
        for stream, timestamp, message in lines:
            logs.write(stream, timestamp, message)
        out += until_done(follower.poll)
    out += until_done(follower.drain)
    for stream in STREAMS:
        written = [(timestamp, text) for lines in rounds for name, timestamp, text in lines if name == stream]
        assert Counter(told(out, stream)) == Counter(written)
    assert until_done(follower.drain) == []


@settings(max_examples=100, deadline=None)
@given(rounds=arrivals(), page=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_lines_that_are_not_late_come_in_the_order_in_which_they_were_written(
    rounds: list[list[tuple[str, int, str]]], page: int, seed: int
) -> None:
    logs, out = FakeLogs(page=page, seed=seed), []
    clock = count(0, 11)
    follower = LogFollower(logs, "job", clock=lambda: float(next(clock)))
    number = count()
    moments: dict[str, int] = dict.fromkeys(STREAMS, 1)
    for lines in rounds:
        for stream, timestamp, _ in lines:
            moments[stream] += timestamp // 4  # often the same moment again, never an earlier one
            logs.write(stream, moments[stream], str(next(number)))
        out += follower.poll()
    out += follower.drain()
    for stream in STREAMS:
        assert told(out, stream) == [(line[0], line[2]) for line in logs.streams.get(stream, [])]


def test_a_late_line_is_found_in_the_next_sweep() -> None:
    logs, now = FakeLogs(), 0.0
    follower = LogFollower(logs, "job", clock=lambda: now)
    logs.write(STREAMS[0], 1_000_000, "on time")
    assert [event.message for event in follower.poll()] == ["on time"]
    logs.write(STREAMS[0], 800_000, "late")
    now = 5.0
    assert follower.poll() == []
    now = SWEEP_SECONDS + 1.0
    assert [event.message for event in follower.poll()] == ["late"]
    logs.write(STREAMS[0], 1, "far too late")
    now += SWEEP_SECONDS + 1
    assert follower.poll() == []
    assert [event.message for event in follower.drain()] == ["far too late"]


def test_a_stream_that_begins_after_an_interruption_is_followed_and_the_old_one_is_left_in_peace() -> None:
    logs, now = FakeLogs(), 0.0
    follower = LogFollower(logs, "job", clock=lambda: now)
    logs.write("job/algo-1-100", 1, "before")
    logs.write("job-2/algo-1-100", 1, "of another job")
    follower.poll()
    logs.write("job/algo-1-200", 2, "after")
    now = 11.0
    assert [event.message for event in follower.poll()] == ["after"]
    before, now = logs.requests, 12.0
    follower.poll()
    assert logs.requests - before == 2  # two pages of the newest stream alone
    assert follower.streams == ("job/algo-1-100", "job/algo-1-200")
    assert follower.hosts == {"algo-1"}


def test_a_token_that_expired_begins_the_reading_again() -> None:
    class Sleeper(FakeLogs):
        slept = False

        def call(self, service, operation, request=None):  # type: ignore[no-untyped-def]
            if "nextToken" in request and not self.slept:
                self.slept = True
                raise AwsError("GetLogEvents: The specified nextToken is invalid (InvalidParameterException)")
            return super().call(service, operation, request)

    logs = Sleeper(page=2)
    for number in range(5):
        logs.write(STREAMS[0], number, str(number))
    events = LogFollower(logs, "job").drain()
    assert [event.message for event in events] == ["0", "1", "2", "3", "4"]


def test_hosts_by_the_name_of_the_stream() -> None:
    assert host_of("wrn-a-b/algo-12-1700000000") == "algo-12"
    assert host_of("odd") == "odd"


def test_a_hundred_thousand_lines_from_a_stub_while_they_arrive() -> None:
    """Measured: 100,000 lines, none lost, none repeated."""
    logs = FakeLogs()
    for stream in STREAMS:
        logs.streams[stream] = []
    clock = count(0, 4)
    follower = LogFollower(logs, "job", clock=lambda: float(next(clock)))
    out = []
    started = time.perf_counter()
    for block in range(20):
        for number in range(5000):
            # A burst of 500 lines has one timestamp, and every tenth line the same text.
            text = "same" if number % 10 == 0 else f"{block} {number}"
            logs.write(STREAMS[number % 3], 1000 * block + number // 500, text)
        out += follower.poll()
    out += follower.drain()
    seconds = time.perf_counter() - started
    assert len(out) == 100_000
    for stream in STREAMS:
        assert told(out, stream) == [(line[0], line[2]) for line in logs.streams[stream]]
    assert seconds < 15


def test_a_hundred_thousand_lines_from_moto_within_thirty_seconds(account: None) -> None:
    client = boto3.client("logs", "eu-west-1")
    client.create_log_group(logGroupName=LOG_GROUP)
    now = 1000 * int(time.time())
    for stream in STREAMS[:2]:
        client.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        for block in range(5):
            events = [
                {"timestamp": now + 10 * block + number // 1000, "message": f"{block} {number} some more text"}
                for number in range(10_000)
            ]
            client.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)
    started = time.perf_counter()
    out = LogFollower(Session(), "job").drain()
    assert time.perf_counter() - started < 30
    expected = [f"{block} {number} some more text" for block in range(5) for number in range(10_000)]
    for stream in STREAMS[:2]:
        assert [event.message for event in out if event.stream == stream] == expected
