"""Fetch a job's results: resumable download, verified, safely unpacked, put in place atomically."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrn.aws.account.errors import Denied, NotThere
from wrn.aws.account.session import Session
from wrn.aws.account.waiting import WATCH
from wrn.aws.jobs.failures import failed
from wrn.aws.jobs.job import Job, owner_guard, split_uri
from wrn.aws.s3.unpack import unpack
from wrn.errors import AwsError
from wrn.filesystem import exists, file_digest, is_dir, is_file
from wrn.strict_json import to_json

RECORD = ".wrn-fetch.json"
"""In the output folder: which job's archives it holds, and the ETag of each."""

PART = 8 << 20
"""Bytes per request: the most that a broken connection can cost."""

Tell = Callable[[str, int, int], None]


@dataclass
class Fetched:
    """bytes: how many were downloaded; 0 if everything was there already."""

    model: Path
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


def fetch(session: Session, job: Job, folder: Path, *, force: bool = False, tell: Tell | None = None) -> Fetched:
    """Put the job's model into `folder`/model and its records (history.jsonl, metrics.json) into `folder`.

    What is already there from this job and unchanged is not fetched again. Raises AwsError if there is no model, if
    `folder` holds something else (unless `force`), and for a damaged or malicious archive.
    """
    if not job.is_over:
        raise AwsError(f"{job.name} is not done yet ({job.secondary}); `wrn logs -f {job.name}` follows it")
    model_uri = job.model or f"{job.output.rstrip('/')}/{job.name}/output/model.tar.gz"
    record = _read_record(folder)
    _check_folder(folder, record, job, force)
    if record.get("job") != job.name:
        record = {"job": job.name}
    result = Fetched(folder / "model")
    created = [path for path in (folder, *folder.parents) if not exists(path)]
    try:
        archive = _archive(session, job, model_uri, record, folder, result, tell)
        if archive is not None:
            _place_model(archive, folder, record, result)
            _remember(folder, record, "model", archive)
    except AwsError:
        # Without a model the folder is nobody's; only part of a download stays, to be resumed.
        with contextlib.suppress(OSError):
            for path in (folder / ".download", *created):
                path.rmdir()
        raise
    records = _records_uri(model_uri)
    try:
        archive = _archive(session, job, records, record, folder, result, tell)
    except NotThere:
        result.notes.append(f"{records} does not exist: the model comes without a history")
        archive = None
    if archive is not None:
        _place_records(archive, folder, result)
        _remember(folder, record, "output", archive)
    shutil.rmtree(folder / ".download", ignore_errors=True)
    result.files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if is_file(path) and path.name != RECORD
    )
    return result


@dataclass(frozen=True)
class _Archive:
    path: Path
    etag: str


def _archive(
    session: Session, job: Job, uri: str, record: dict[str, Any], folder: Path, result: Fetched, tell: Tell | None
) -> _Archive | None:
    """The complete archive on this disk; None if its content is in the folder already."""
    bucket, key = split_uri(uri)
    guard = owner_guard(job, bucket)
    try:
        head = session.call("s3", "HeadObject", {"Bucket": bucket, "Key": key, **guard})
    except NotThere:
        if not key.endswith("/model.tar.gz"):
            raise
        if job.status == "Failed":
            raise failed(job) from None
        raise NotThere(f"{job.name} left no model at {uri}; `wrn resume {job.name}` resumes the job") from None
    except Denied as error:
        if not guard:
            raise
        raise Denied(f"{uri}: the bucket belongs to another account now, or {error}") from None
    etag, kind = head["ETag"], "model" if key.endswith("/model.tar.gz") else "output"
    if record.get("job") == job.name and record.get(kind) == etag and (kind == "output" or is_dir(result.model)):
        return None
    path = folder / ".download" / f"{re.sub(r'[^0-9a-zA-Z]', '', etag)}-{Path(key).name}"
    result.bytes += download(session, bucket, key, path, head, tell, guard)
    return _Archive(path, etag)


def download(
    session: Session,
    bucket: str,
    key: str,
    path: Path,
    head: dict[str, Any],
    tell: Tell | None = None,
    guard: dict[str, str] | None = None,
) -> int:
    """Download an object in parts, resuming an earlier attempt; returns the number of bytes downloaded now.

    head: its HeadObject. guard: the expected owner of the bucket, as part of the request. `path` must be specific to
    this ETag. Raises AwsError if damaged bytes arrived.
    """
    size, etag, came = int(head["ContentLength"]), head["ETag"], 0
    have = path.stat().st_size if exists(path) else 0
    if have > size:
        path.unlink()
        have = 0
    if not size:
        raise AwsError(f"s3://{bucket}/{key}: is empty, so the job was cut off while it was written")
    try:
        while have < size:
            last = min(have + PART, size) - 1
            request = {"Bucket": bucket, "Key": key, "Range": f"bytes={have}-{last}", "IfMatch": etag}
            part = session.call("s3", "GetObject", {**request, **(guard or {})})["Body"]
            with WATCH.reading("s3", session.region, "GetObject", last - have + 1):
                content = _body(part, f"s3://{bucket}/{key}")
            if len(content) != last - have + 1:
                raise AwsError(f"s3://{bucket}/{key}: the connection broke; repeat the command to resume")
            path.parent.mkdir(parents=True, exist_ok=True)  # only now: a refused download leaves nothing behind
            with path.open("ab") as file:
                file.write(content)
            have, came = last + 1, came + len(content)
            if tell is not None:
                tell(Path(key).name, have, size)
    except OSError as error:
        raise AwsError(f"{path} cannot be written ({error.strerror}); free some space or give another folder") from None
    # The ETag of an object that was uploaded in one piece, without a KMS key, is its MD5.
    plain = re.fullmatch(r'"([0-9a-f]{32})"', etag)
    if plain and head.get("ServerSideEncryption") in (None, "AES256") and file_digest(path, "md5") != plain[1]:
        path.unlink()
        raise AwsError(f"s3://{bucket}/{key}: what arrived is damaged and was removed; fetch it again")
    return came


def _body(body: Any, uri: str) -> bytes:
    try:
        return bytes(body.read())
    except Exception as error:
        # urllib3's and botocore's read errors share no class that could be named without importing them.
        if type(error).__module__.partition(".")[0] not in ("botocore", "urllib3"):
            raise
        raise AwsError(f"{uri}: the connection broke; repeat the command to resume") from None


def _place_model(archive: _Archive, folder: Path, record: dict[str, Any], result: Fetched) -> None:
    """Unpack next to it, then rename: there is never half a model. From then on the folder is the job's."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch:
        fresh = Path(scratch, "model")
        fresh.mkdir()
        names = _unpack(archive, fresh)
        if "model.safetensors" not in names:
            archive.path.unlink()
            raise AwsError(
                f"{archive.path.name}: holds no model.safetensors but {', '.join(names[:5]) or 'nothing'}; "
                "was it trained by wrn?"
            )
        _write_record(folder, record)  # first, so that a broken attempt can be repeated
        if exists(result.model):
            result.model.rename(Path(scratch, "old"))
        fresh.rename(result.model)


def _place_records(archive: _Archive, folder: Path, result: Fetched) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch:
        for name in _unpack(archive, Path(scratch)):
            top = name.split("/")[0]
            if top in ("model", RECORD, ".download"):
                result.notes.append(f"{name} in {archive.path.name} was left out: the name is taken")
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not through a link in the folder: the link itself is replaced.
            if not target.parent.resolve().is_relative_to(folder.resolve()):
                raise AwsError(f"{target.parent} leads outside {folder}; remove that link, or give another folder")
            Path(scratch, name).replace(target)


def _unpack(archive: _Archive, folder: Path) -> list[str]:
    try:
        return unpack(archive.path, folder)
    except AwsError:
        archive.path.unlink(missing_ok=True)  # so that the next attempt does not meet the same bytes
        raise


def _records_uri(model_uri: str) -> str:
    return f"{model_uri.rpartition('/')[0]}/output.tar.gz"


def _check_folder(folder: Path, record: dict[str, Any], job: Job, force: bool) -> None:
    place = next(path for path in (folder, *folder.parents) if exists(path))
    if not is_dir(place):
        raise AwsError(f"{place} is not a folder; give another --output-dir")
    if not os.access(place, os.W_OK):
        raise AwsError(f"{place} cannot be written; give another --output-dir")
    if force:
        return
    has_model = exists(folder / "model")
    if record and record.get("job") != job.name and (has_model or "model" in record):
        raise AwsError(f"{folder} holds the results of {record.get('job')}; give another --output-dir, or --force")
    if not record and has_model:
        raise AwsError(f"{folder / 'model'} exists, but was not fetched; give another --output-dir, or --force")


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(folder: Path, record: dict[str, Any], kind: str, archive: _Archive) -> None:
    record[kind] = archive.etag
    _write_record(folder, record)


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    temporary = folder / f"{RECORD}.tmp"
    temporary.write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / RECORD)
