"""Uploading files: once, in parts, resumed, verified."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ConnectionClosedError

from wrn.aws.account import session as session_module
from wrn.aws.account.errors import NoAnswer, NotThere
from wrn.aws.account.session import Session
from wrn.aws.s3 import upload as upload_module
from wrn.aws.s3.upload import Bucket, Content, upload, upload_files
from wrn.errors import AwsError

if TYPE_CHECKING:
    from mocked_aws import Faults

PART = 50_000
"""S3 takes no less than 5 MiB; moto can be told otherwise."""

BUCKET = Bucket("there", "123456789012")
BROKEN = ConnectionClosedError(endpoint_url="https://s3")


@pytest.fixture
def session(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(upload_module, "PART", PART)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(upload_module, "AT_A_TIME", 1)
    monkeypatch.setattr(session_module, "AGAIN_SECONDS", 0)  # the repeated command is another process
    session = Session(region="us-east-1")
    session.call("s3", "CreateBucket", {"Bucket": "there"})
    session.sent.clear()
    return session


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(random.Random(0).randbytes(3 * PART + 1000))
    return path


def sent(session: Session, operation: str) -> int:
    return session.sent.count(("s3", operation))


def stored(session: Session, key: str) -> bytes:
    return bytes(session.call("s3", "GetObject", {"Bucket": "there", "Key": key})["Body"].read())


def test_small_content_in_one_piece_and_once(session: Session) -> None:
    assert upload(session, BUCKET, "k", b"content") == 7
    assert stored(session, "k") == b"content"
    assert upload(session, BUCKET, "k", b"content") == 0
    assert sent(session, "PutObject") == 1
    assert upload(session, BUCKET, "k", b"other content") == 13
    assert upload(session, BUCKET, "empty", b"") == 0
    assert stored(session, "empty") == b""


def test_in_parts_and_once(session: Session, large: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert upload(session, BUCKET, "k", large, lambda *done: seen.append(done)) == large.stat().st_size
    assert sent(session, "UploadPart") == 4
    assert seen[-1] == (large.stat().st_size, large.stat().st_size)
    assert stored(session, "k") == large.read_bytes()
    session.sent.clear()
    assert upload(session, BUCKET, "k", large) == 0
    assert session.sent == [("s3", "HeadObject")]


def test_what_has_arrived_is_not_sent_again(session: Session, large: Path, faults: Faults) -> None:
    faults.fail("UploadPart", BROKEN, after=2, times=9)
    with pytest.raises(NoAnswer, match="what has arrived is kept: repeat the command to resume"):
        upload(session, BUCKET, "k", large)
    faults.planned.clear()
    session.sent.clear()
    assert upload(session, BUCKET, "k", large) == PART + 1000
    assert sent(session, "UploadPart") == 2
    assert sent(session, "CreateMultipartUpload") == 0
    assert stored(session, "k") == large.read_bytes()


def test_a_connection_that_breaks_for_a_moment(session: Session, large: Path, faults: Faults) -> None:
    faults.fail("UploadPart", BROKEN, after=1)
    upload(session, BUCKET, "k", large)
    assert sent(session, "UploadPart") == 5
    assert stored(session, "k") == large.read_bytes()


def test_ctrl_c_loses_nothing(session: Session, large: Path, faults: Faults) -> None:
    faults.fail("UploadPart", KeyboardInterrupt(), after=3)
    with pytest.raises(KeyboardInterrupt):
        upload(session, BUCKET, "k", large)
    assert upload(session, BUCKET, "k", large) == 1000


def test_ctrl_c_does_not_wait_for_what_aws_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "WATCH", SimpleNamespace(is_late=True))
    answer = threading.Event()

    def work(item: str) -> None:
        if item == "interrupted":
            raise KeyboardInterrupt
        assert answer.wait(60)

    try:
        with pytest.raises(KeyboardInterrupt):
            list(upload_module._together(work, ["silent", "interrupted"], 2))
        assert not answer.is_set()
    finally:
        answer.set()


def test_parts_of_other_content_are_replaced(session: Session, large: Path, faults: Faults, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * PART + large.read_bytes()[PART:])
    faults.fail("UploadPart", BROKEN, after=2, times=9)
    with pytest.raises(NoAnswer):
        upload(session, BUCKET, "k", other)
    faults.planned.clear()
    assert upload(session, BUCKET, "k", large) == large.stat().st_size - PART
    assert stored(session, "k") == large.read_bytes()


def test_two_at_once(session: Session, large: Path) -> None:
    amounts: list[int] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            amounts.append(upload(Session(region="us-east-1"), BUCKET, "k", large))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, len(amounts)) == ([], 2)
    assert stored(session, "k") == large.read_bytes()


def test_the_other_one_has_completed_it(session: Session, large: Path, faults: Faults) -> None:
    upload(session, BUCKET, "k", large)
    faults.refuse("HeadObject", "404", status=404)  # not there yet at the first look
    faults.refuse("CompleteMultipartUpload", "NoSuchUpload", status=404)
    assert upload(session, BUCKET, "k", large) == large.stat().st_size
    faults.refuse("HeadObject", "404", status=404, times=2)
    faults.refuse("CompleteMultipartUpload", "NoSuchUpload", status=404)
    with pytest.raises(NotThere):
        upload(session, BUCKET, "k", large)


def test_the_other_one_has_completed_it_before_we_asked_for_its_parts(
    session: Session, large: Path, faults: Faults
) -> None:
    upload(session, BUCKET, "k", large)
    session.call("s3", "CreateMultipartUpload", BUCKET.at("k") | {"ChecksumAlgorithm": "SHA256"})
    for there, sent in ((1, 0), (2, large.stat().st_size)):
        faults.refuse("HeadObject", "404", status=404, times=there)
        faults.refuse("ListParts", "NoSuchUpload", status=404)
        assert upload(session, BUCKET, "k", large) == sent
    assert stored(session, "k") == large.read_bytes()


def test_a_checksum_that_differs_is_told(session: Session, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = session.call

    def altered(service: str, operation: str, request: dict[str, object]) -> dict[str, object]:
        answer = call(service, operation, request)
        return answer | ({"ChecksumSHA256": "AAAA-4"} if operation == "CompleteMultipartUpload" else {})

    monkeypatch.setattr(session, "call", altered)
    with pytest.raises(AwsError, match="s3://there/k: arrived with a different checksum"):
        upload(session, BUCKET, "k", large)


def test_the_checksum_is_the_one_that_s3_keeps() -> None:
    assert Content(b"abc").checksum == "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="


def test_many_files_and_the_mark(session: Session, tmp_path: Path, faults: Faults) -> None:
    files = []
    for number in range(20):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"p" * (number + 1))
        files.append((f"train/a/{number}.png", path))
    faults.fail("PutObject", BROKEN, after=12, times=99)
    with pytest.raises(NoAnswer):
        upload_files(session, BUCKET, "data/x/", files)
    faults.planned.clear()
    session.sent.clear()
    upload_files(session, BUCKET, "data/x/", files)
    assert 1 <= sent(session, "PutObject") <= 9
    listed = session.call("s3", "ListObjectsV2", {"Bucket": "there"})["Contents"]
    assert {entry["Key"] for entry in listed} == {"data/x.complete", *(f"data/x/{name}" for name, _ in files)}
    session.sent.clear()
    assert upload_files(session, BUCKET, "data/x/", files) == 0
    assert session.sent == [("s3", "HeadObject")]
