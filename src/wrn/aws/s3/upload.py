"""Upload files to the bucket: each once, in parts, resumed where they broke off, and verified by SHA-256 on arrival.

S3 compares every request's checksum with what arrived, so a part that is there is correct; the whole is correct if
the checksum over the parts' checksums, which S3 keeps, equals the one computed here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wrn.aws.account.errors import Denied, NoAnswer, NotThere, Throttled
from wrn.aws.account.session import CONNECTIONS, Session
from wrn.aws.account.waiting import WATCH
from wrn.errors import AwsError

PART = 8 * 2**20
"""Bytes of a part, and the most that is sent in one piece. S3 takes no less than 5 MiB; an interrupted part is sent
again, and Ctrl-C waits for the parts in flight."""

AT_A_TIME = 4
"""Parts in flight at once: 32 MiB of memory."""

FILES_AT_A_TIME = CONNECTIONS

Progress = Callable[[int, int], None]
"""Called with the number of bytes that arrived, and the total."""


@dataclass(frozen=True)
class Bucket:
    """Where files go. owner: the account it must belong to, or empty; kms_key: what encrypts them, or empty."""

    name: str
    owner: str = ""
    kms_key: str = ""

    def at(self, key: str) -> dict[str, str]:
        """The address of an object, as the start of a request."""
        return {"Bucket": self.name, "Key": key, **self.guard}

    @property
    def guard(self) -> dict[str, str]:
        """Makes S3 refuse if the bucket now belongs to someone else."""
        return {"ExpectedBucketOwner": self.owner} if self.owner else {}

    @property
    def encryption(self) -> dict[str, str]:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key} if self.kms_key else {}


@dataclass(frozen=True)
class Content:
    """What is uploaded: bytes, or a file that is read one part at a time."""

    source: bytes | Path

    @cached_property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def parts(self) -> int:
        return max(1, -(-self.size // PART))

    def read(self, number: int) -> bytes:
        """Part `number`, from 1."""
        begin = (number - 1) * PART
        if isinstance(self.source, bytes):
            return self.source[begin : begin + PART]
        with self.source.open("rb") as file:
            file.seek(begin)
            return file.read(PART)

    @cached_property
    def sums(self) -> list[bytes]:
        """SHA-256 of each part."""
        return [hashlib.sha256(self.read(number)).digest() for number in range(1, self.parts + 1)]

    @property
    def checksum(self) -> str:
        """As S3 keeps it: that of the only part, or that over all parts' checksums."""
        return _base64(self.sums[0] if self.parts == 1 else hashlib.sha256(b"".join(self.sums)).digest())


def upload(
    session: Session, bucket: Bucket, key: str, source: bytes | Path, on_progress: Progress | None = None
) -> int:
    """The number of bytes sent: 0 if this very content is there already.

    What arrived before a connection broke, in this or another process, is not sent again.
    Raises AwsError: NoAnswer if the connection breaks for good.
    """
    content = Content(source)
    if is_there(session, bucket, key, content):
        return 0
    progress = on_progress or (lambda done, total: None)
    try:
        if content.parts == 1:
            checksum = {"ChecksumSHA256": content.checksum}
            session.call("s3", "PutObject", bucket.at(key) | bucket.encryption | {"Body": content.read(1)} | checksum)
            progress(content.size, content.size)
            return content.size
        return _in_parts(session, bucket, key, content, progress)
    except (NoAnswer, Throttled) as error:
        raise type(error)(f"{error}; what has arrived is kept: repeat the command to resume") from None


def is_there(session: Session, bucket: Bucket, key: str, content: Content) -> bool:
    try:
        found = session.call("s3", "HeadObject", bucket.at(key) | {"ChecksumMode": "ENABLED"})
    except NotThere:
        return False
    except Denied:
        raise Denied(
            f"s3://{bucket.name}/{key}: access denied; ask the account's administrator for s3:GetObject and "
            "s3:ListBucket there (wrn deploy --print-policy lists all permissions)"
        ) from None
    # Uploaded by other means (`aws s3 cp`), it has no such checksum; the key, derived from the content, must do.
    kept = str(found.get("ChecksumSHA256", "")).partition("-")[0]
    return found["ContentLength"] == content.size and kept in ("", content.checksum)


def _in_parts(session: Session, bucket: Bucket, key: str, content: Content, progress: Progress) -> int:
    known = _begun(session, bucket, key)
    arrived: dict[int, dict[str, Any]] = {}
    if known:
        try:
            arrived = _arrived(session, bucket, key, known, content)
        except NotThere:  # just completed or aborted by someone else
            if is_there(session, bucket, key, content):
                return 0
            known = ""
    number = known or _begin(session, bucket, key)
    missing = [part for part in range(1, content.parts + 1) if part not in arrived]
    sent = 0
    done = content.size - sum(_length(content, part) for part in missing)

    def send(part: int) -> tuple[int, dict[str, Any]]:
        checksum = {"ChecksumSHA256": _base64(content.sums[part - 1])}
        where = bucket.at(key) | {"UploadId": number, "PartNumber": part}
        answer = session.call("s3", "UploadPart", where | {"Body": content.read(part)} | checksum)
        return part, {"PartNumber": part, "ETag": answer["ETag"], **checksum}

    try:
        for part, entry in _together(send, missing, AT_A_TIME):
            arrived[part] = entry
            sent += _length(content, part)
            progress(done + sent, content.size)
        whole = {"MultipartUpload": {"Parts": [arrived[part] for part in sorted(arrived)]}}
        answer = session.call("s3", "CompleteMultipartUpload", bucket.at(key) | {"UploadId": number} | whole)
    except NotThere:
        # Another process sending the same has completed this upload, which ends it.
        if is_there(session, bucket, key, content):
            return sent
        raise
    kept = str(answer.get("ChecksumSHA256", "")).partition("-")[0]
    if kept not in ("", content.checksum):
        raise AwsError(f"s3://{bucket.name}/{key}: arrived with a different checksum; delete it there and try again")
    return sent


def _begin(session: Session, bucket: Bucket, key: str) -> str:
    kind = {"ChecksumAlgorithm": "SHA256"}
    return str(session.call("s3", "CreateMultipartUpload", bucket.at(key) | bucket.encryption | kind)["UploadId"])


def _begun(session: Session, bucket: Bucket, key: str) -> str:
    """The newest unfinished upload of this object; empty if there is none."""
    request = {"Bucket": bucket.name, "Prefix": key, **bucket.guard}
    try:
        uploads = list(session.pages("s3", "ListMultipartUploads", "Uploads", request))
    except Denied:
        return ""  # it only saves re-sending
    found = [entry for entry in uploads if entry["Key"] == key and entry.get("ChecksumAlgorithm", "SHA256") == "SHA256"]
    return str(max(found, key=lambda entry: entry["Initiated"])["UploadId"]) if found else ""


def _arrived(session: Session, bucket: Bucket, key: str, number: str, content: Content) -> dict[int, dict[str, Any]]:
    """The parts of an upload that are there and match the content, by number."""
    parts = {}
    for entry in session.pages("s3", "ListParts", "Parts", bucket.at(key) | {"UploadId": number}):
        part = int(entry["PartNumber"])
        if part <= content.parts and entry["Size"] == _length(content, part) and _same(entry, content, part):
            parts[part] = {
                "PartNumber": part,
                "ETag": entry["ETag"],
                "ChecksumSHA256": _base64(content.sums[part - 1]),
            }
    return parts


def _same(entry: dict[str, Any], content: Content, part: int) -> bool:
    if "ChecksumSHA256" in entry:
        return bool(entry["ChecksumSHA256"] == _base64(content.sums[part - 1]))
    # Some S3-compatible stores list no checksums; a part's ETag is its md5 unless a KMS key encrypts it.
    return bool(entry["ETag"].strip('"') == hashlib.md5(content.read(part), usedforsecurity=False).hexdigest())


def _length(content: Content, part: int) -> int:
    return min(PART, content.size - (part - 1) * PART)


def upload_files(
    session: Session,
    bucket: Bucket,
    prefix: str,
    files: Sequence[tuple[str, Path]],
    on_progress: Progress | None = None,
) -> int:
    """Upload every file (name and path) under `prefix`, which holds this content only. Returns the bytes sent.

    A marker next to the prefix says that all are there; without it, only files not listed there are sent.
    """
    mark = f"{prefix.rstrip('/')}.complete"
    if all_there(session, bucket, prefix):
        return 0
    request = {"Bucket": bucket.name, "Prefix": prefix, **bucket.guard}
    there = {entry["Key"]: entry["Size"] for entry in session.pages("s3", "ListObjectsV2", "Contents", request)}
    total = sum(path.stat().st_size for _, path in files)
    missing = [(name, path) for name, path in files if there.get(prefix + name) != path.stat().st_size]
    done = total - sum(path.stat().st_size for _, path in missing)
    sent = 0
    for amount in _together(lambda file: upload(session, bucket, prefix + file[0], file[1]), missing, FILES_AT_A_TIME):
        sent += amount
        if on_progress:
            on_progress(done + sent, total)
    upload(session, bucket, mark, f"{len(files)} files, {total} bytes\n".encode())
    return sent


def all_there(session: Session, bucket: Bucket, prefix: str) -> bool:
    """Whether `upload_files` has completed this prefix."""
    try:
        session.call("s3", "HeadObject", bucket.at(f"{prefix.rstrip('/')}.complete"))
    except NotThere:
        return False
    return True


def _together(work: Callable[[Any], Any], items: Sequence[Any], at_a_time: int) -> Any:
    """The results as they come. After the first error, or Ctrl-C, nothing new is started."""
    pool = ThreadPoolExecutor(at_a_time)
    try:
        futures: list[Future[Any]] = [pool.submit(work, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    finally:
        # What AWS does not answer is not waited for: that is what Ctrl-C is to stop.
        pool.shutdown(wait=not WATCH.is_late, cancel_futures=True)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
