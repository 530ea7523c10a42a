"""An endpoint that takes connections and never answers: what is said, how often it is tried, and how it is stopped."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from wrn.aws.account import session as session_module
from wrn.aws.account import waiting
from wrn.aws.account.errors import Unreachable
from wrn.aws.account.session import Session
from wrn.aws.account.waiting import WATCH, Watch
from wrn.cli import logs as logs_command
from wrn.cli import main

BUCKET = {"Bucket": "there"}
IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/anna</Arn>"
    b"<Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
"""STS's answer to any request."""


class Endpoint:
    """Takes every connection. answer: sent to the requests of those after the first `silent`; None: never."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self.answer: bytes | None = None
        self.silent = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            if self.answer is not None and len(self.connections) > self.silent:
                connection.recv(2**16)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.answer)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + self.answer)

    def close(self) -> None:
        for one in (self.socket, *self.connections):
            one.close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, one_loader: None) -> Iterator[Endpoint]:
    """In place of all of AWS, with all times a hundredth of their length, and no pauses between attempts."""
    found = Endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "READ_SECONDS", 0.3)
    monkeypatch.setattr(waiting, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(session_module, "RETRIES", "standard")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    yield found
    found.close()


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(WATCH, "on_message", told.append)
    monkeypatch.setattr(WATCH, "_unanswered", False)
    return told


def test_who_does_not_answer_until_when_it_is_tried_and_how_to_stop(endpoint: Endpoint, messages: list[str]) -> None:
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="HeadBucket: AWS did not answer"):
        Session(region="eu-west-1").call("s3", "HeadBucket", BUCKET)
    assert 0.6 <= time.monotonic() - begun < 20, "on a busy machine"
    assert len(endpoint.connections) == 2, "two attempts"
    (line,) = messages
    until = re.search(r"AWS \(s3 in eu-west-1\) has not answered HeadBucket .* until (\d\d:\d\d:\d\d) .* Ctrl-C", line)
    assert until
    assert not WATCH.is_late


def test_until_when_is_true(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "CONNECT_SECONDS", 99.9)
    monkeypatch.setattr(session_module, "ATTEMPTS", 2)
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(WATCH, "on_message", lambda text: told.append((time.time(), text)))
    monkeypatch.setattr(WATCH, "_unanswered", False)
    with pytest.raises(Unreachable):
        Session(region="eu-west-1").call("s3", "HeadBucket", BUCKET)
    ((moment, text),) = told
    limits = [time.strftime("%H:%M:%S", time.localtime(moment + 200 + late)) for late in (-0.2, 0.4)]
    assert any(f"until {limit} at the latest" in text for limit in limits)


def test_what_has_just_failed_is_not_tried_again(endpoint: Endpoint, messages: list[str]) -> None:
    session = Session(region="eu-west-1")
    with pytest.raises(Unreachable):
        session.call("s3", "HeadBucket", BUCKET)
    with pytest.raises(Unreachable, match="ListObjectsV2: not tried, as AWS has just not answered; HeadBucket:"):
        list(session.pages("s3", "ListObjectsV2", "Contents", BUCKET))
    assert len(endpoint.connections) == 2
    with pytest.raises(Unreachable, match="GetRole: AWS did not answer"):
        session.call("iam", "GetRole", {"RoleName": "r"})
    assert len(endpoint.connections) == 3, "another service, once: nothing was answered since"
    with pytest.raises(Unreachable, match="HeadBucket: AWS did not answer"):
        session.in_region("us-west-2").call("s3", "HeadBucket", BUCKET)
    assert len(endpoint.connections) == 4
    assert len(messages) == 3


def test_it_is_tried_again_some_time_later(
    endpoint: Endpoint, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following a job goes on for a quarter of an hour."""
    session = Session(region="eu-west-1")
    with pytest.raises(Unreachable):
        session.call("sts", "GetCallerIdentity")
    monkeypatch.setattr(session_module, "AGAIN_SECONDS", 0)
    endpoint.answer = IDENTITY
    assert session.account == "123456789012"
    monkeypatch.undo()
    assert session.call("sts", "GetCallerIdentity")["Account"] == "123456789012", "it answers: nothing is refused"


def test_an_answer_that_comes_late(endpoint: Endpoint, messages: list[str]) -> None:
    endpoint.answer, endpoint.silent = IDENTITY, 1
    assert Session(region="eu-west-1").account == "123456789012"
    assert len(endpoint.connections) == 2
    assert len(messages) == 2
    assert messages[1] == "AWS answers again (sts in eu-west-1)"


def test_a_quick_answer_is_nothing_to_speak_of(endpoint: Endpoint, messages: list[str]) -> None:
    endpoint.answer = IDENTITY
    assert Session(region="eu-west-1").account == "123456789012"
    time.sleep(0.1)
    assert messages == []


def test_many_requests_to_one_place_are_one_notice(endpoint: Endpoint, messages: list[str]) -> None:
    session = Session(region="eu-west-1")
    session.client("s3")

    def ask() -> None:
        with pytest.raises(Unreachable):
            session.call("s3", "HeadBucket", BUCKET)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages) == 1


def test_a_body_on_its_way_is_not_late(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    class Timer:
        """Rings never, and remembers when it should have."""

        seconds: ClassVar[list[float]] = []

        def __init__(self, seconds: float, *_: Any) -> None:
            self.seconds.append(seconds)

        def start(self) -> None:
            pass

        cancel = start

    endpoint.answer = b""
    monkeypatch.setattr(waiting, "SLOWEST", 1000)
    monkeypatch.setattr("wrn.aws.account.waiting.threading.Timer", Timer)
    Session(region="eu-west-1").call("s3", "HeadBucket", BUCKET)
    Session(region="eu-west-1").call("s3", "PutObject", {**BUCKET, "Key": "k", "Body": b"x" * 5000})
    assert Timer.seconds == [0.05, 5.05]


def test_a_slow_upload_that_breaks_is_tried_once_more() -> None:
    """However long it took: the limit is one on silence."""
    now, handlers = 0.0, dict[str, Any]()
    watch = Watch(lambda: now)
    watch.register(SimpleNamespace(register=handlers.__setitem__))
    config = SimpleNamespace(connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 8})
    request = SimpleNamespace(context={"client_config": config, "client_region": "eu-west-1"}, data=b"", headers={})
    broken = ConnectionError("reset")
    handlers["request-created"](request, event_name="request-created.s3.UploadPart")
    now = 400.0
    handlers["needs-retry"](request_dict={"context": request.context}, attempts=1, caught_exception=broken)
    handlers["request-created"](request, event_name="request-created.s3.UploadPart")
    now = 401.0
    with pytest.raises(ConnectionError):
        handlers["needs-retry"](request_dict={"context": request.context}, attempts=2, caught_exception=broken)
    handlers["after-call-error"](request.context)


def test_an_answer_whose_body_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "NOTICE_SECONDS", 0.02)
    watch, told = Watch(), list[str]()
    watch.on_message = told.append
    with watch.reading("s3", "eu-west-1", "GetObject", 100):
        deadline = time.monotonic() + 5
        while not watch.is_late and time.monotonic() < deadline:
            time.sleep(0.01)
        assert watch.is_late
    assert not watch.is_late
    assert len(told) == 1


def test_the_person_is_told_on_standard_error(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "wrn-a", "--region", "eu-west-1", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert "AWS (sagemaker in eu-west-1) has not answered DescribeTrainingJob" in first
    assert last.startswith("wrn status: DescribeTrainingJob: AWS did not answer (")


def test_ctrl_c_ends_the_wait(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "READ_SECONDS", 60.0)
    monkeypatch.setattr(WATCH, "on_message", lambda text: os.kill(os.getpid(), signal.SIGINT))
    with logs_command.CtrlC(lambda: WATCH.is_late), pytest.raises(logs_command.Leave):
        Session(region="eu-west-1").call("s3", "HeadBucket", BUCKET)
    assert len(endpoint.connections) == 1
    assert not WATCH.is_late
