"""wrn's buckets: finding them, measuring them, and emptying them to the last version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.errors import Denied, NoAnswer, NotThere
from wrn.aws.account.names import PREFIX
from wrn.aws.account.session import Session
from wrn.aws.jobs import request
from wrn.aws.jobs.job import has_our_tag
from wrn.aws.resources.resource import Unseen
from wrn.errors import AwsError

FOLDERS = tuple(f"{PREFIX}/{folder}/" for folder in request.FOLDERS)
"""In the user's own bucket, wrn writes only below these."""

GB = 1 << 30
"""Bytes, as S3 counts them for billing."""

USD_PER_GB_MONTH = 0.023
"""S3 Standard, first 50 TB, us-east-1: public price lists of 2026. Other regions cost up to a third more."""

AT_ONCE = 1000
"""Objects per DeleteObjects request."""


@dataclass(frozen=True)
class Part:
    """The part of a bucket that is wrn's: all of a bucket that wrn created; in any other, what wrn put there.

    spared: key prefixes that belong to the user: what a job was given as its data.
    """

    bucket: str
    whole: bool = True
    spared: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ("",) if self.whole else FOLDERS

    def holds(self, key: str) -> bool:
        """Whether a key under one of the prefixes is wrn's."""
        if self.whole:
            return True
        # The user's own data may be in the same folder, and the job that it was given to may be gone.
        is_data = key.startswith(f"{PREFIX}/data/")
        return not key.startswith(self.spared) and (not is_data or request.OWN_DATA.match(key) is not None)


@dataclass(frozen=True)
class Size:
    """objects: versions and delete markers. bytes: of all versions, and of the parts of unfinished uploads."""

    objects: int
    bytes: int
    uploads: int


def monthly(size: int) -> float:
    """US dollars per month for this many bytes."""
    return size / GB * USD_PER_GB_MONTH


def own_buckets(session: Session, unseen: Unseen) -> tuple[list[str], list[str]]:
    """The buckets that wrn created: those in the session's region, and those elsewhere."""
    here: list[str] = []
    elsewhere: list[str] = []
    for entry in session.pages("s3", "ListBuckets", "Buckets"):
        name = entry["Name"]
        if not name.startswith("wrn-"):
            continue
        try:
            tags = session.call("s3", "GetBucketTagging", {"Bucket": name})["TagSet"]
            place = session.call("s3", "GetBucketLocation", {"Bucket": name}).get("LocationConstraint")
        except NotThere:
            continue
        except (Denied, NoAnswer) as error:
            unseen(f"bucket {name}", error)
            continue
        if has_our_tag(tags):
            # S3 gives no name for its first region, and an old one for its second.
            region = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}.get(place, place)
            (here if region == session.region else elsewhere).append(name)
    return here, elsewhere


def measure(session: Session, part: Part) -> Size:
    """How much of it is wrn's. A bucket that does not exist is empty."""
    objects = total = uploads = 0
    try:
        for entry in versions(session, part):
            objects += 1
            total += int(entry.get("Size") or 0)
        for upload in _uploads(session, part):
            uploads += 1
            sent = session.pages("s3", "ListParts", "Parts", upload)
            total += sum(int(entry["Size"]) for entry in sent)
    except NotThere:
        pass
    return Size(objects, total, uploads)


def versions(session: Session, part: Part) -> Iterator[dict[str, Any]]:
    """Every version and delete marker of wrn's, each with Key and VersionId."""
    for prefix in part.prefixes:
        yield from (entry for entry in _versions(session, part.bucket, prefix) if part.holds(entry["Key"]))


def _versions(session: Session, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        answer = session.call("s3", "ListObjectVersions", request)
        yield from answer.get("Versions") or ()
        yield from answer.get("DeleteMarkers") or ()
        if not answer.get("IsTruncated"):
            return
        request["KeyMarker"] = answer["NextKeyMarker"]
        if answer.get("NextVersionIdMarker"):
            request["VersionIdMarker"] = answer["NextVersionIdMarker"]


def _uploads(session: Session, part: Part) -> Iterator[dict[str, str]]:
    """wrn's unfinished uploads, each as the start of a request."""
    for prefix in part.prefixes:
        place = {"Bucket": part.bucket, "Prefix": prefix}
        for entry in session.pages("s3", "ListMultipartUploads", "Uploads", place):
            if part.holds(entry["Key"]):
                yield {"Bucket": part.bucket, "Key": entry["Key"], "UploadId": entry["UploadId"]}


def empty(session: Session, part: Part) -> None:
    """Remove every version and every unfinished upload of wrn's.

    Raises AwsError with the first refusal, after trying all.
    """
    bucket = part.bucket
    refused: list[dict[str, Any]] = []
    # Listed completely first: deleting during a listing makes it skip entries.
    found = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in versions(session, part)]
    for start in range(0, len(found), AT_ONCE):
        batch = {"Objects": found[start : start + AT_ONCE], "Quiet": True}
        answer = session.call("s3", "DeleteObjects", {"Bucket": bucket, "Delete": batch})
        refused += answer.get("Errors") or ()
    for upload in list(_uploads(session, part)):
        session.call("s3", "AbortMultipartUpload", upload)
    if refused:
        first = refused[0]
        raise AwsError(
            f"{len(refused)} objects in {bucket} cannot be removed; the first, {first.get('Key')}: "
            f"{first.get('Message') or first.get('Code')}"
        )
