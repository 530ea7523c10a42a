"""The bucket of a deployment: created if missing, repaired if it differs, refused if it belongs to someone else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from wrn.aws.account.errors import Conflict, Denied, NameInUse, NotThere
from wrn.aws.account.session import Session
from wrn.aws.jobs.calls import OWNER, Call, bucket_calls
from wrn.aws.jobs.options import DeployOptions, bucket_name
from wrn.errors import AwsError
from wrn.strict_json import to_json

REPEATS, PAUSE_SECONDS = 8, 1.0
"""Concurrent deployments and a newly created bucket settle within seconds."""

Sleep = Callable[[float], None]


def ensure_bucket(
    session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep = time.sleep
) -> None:
    """Create or repair wrn's own bucket; a bucket given by --bucket is only inspected. One with wrn's default name that
    wrn did not create is used unchanged, or set up if it is bare; it never gets the tag that lets teardown delete it.

    Raises AwsError if it belongs to someone else, is in another region, or was given and does not exist; if it encrypts
    with a key that jobs could not use; and if permissions to create it are missing.
    """
    try:
        _ensure(session, options, tell, sleep)
    except Denied as error:
        raise Denied(f"{error}; or give an existing bucket as --bucket") from None


def _ensure(session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep) -> None:
    name = bucket_name(options)
    if options.bucket:
        if not _found(session, options):
            raise AwsError(f"bucket: there is no {name}; create it, or leave out --bucket to have one created")
        if asks_for_key(options):
            with suppress(Denied):  # without permission to look, deploy anyway: most buckets have no such key
                _is_encrypted(session, name)
        return
    create, tag, *settings = bucket_calls(options)
    if _found(session, options):
        tagged = _is_tagged(session, name)
        # The tag is read again at the end: another deployment may be setting it up right now.
        if not tagged and not _is_bare(session, name) and not _is_tagged(session, name):
            tell(f"bucket: {name} was not created by wrn and is used unchanged")
            return
        if not tagged:
            tell(f"bucket: {name} existed and was bare: it is set up now, and `wrn teardown` will keep it")
        for call in settings:
            if call.operation == "PutBucketEncryption" and not options.kms_key and _is_encrypted(session, name):
                continue
            if _repair(session, call, sleep):
                tell(f"bucket: {name} differed in {_setting(call)}, which is repaired")
        return
    try:
        patiently(session, create, sleep)
    except NameInUse:
        # Created by a concurrent deployment, or owned by someone else: the next look tells.
        for _ in range(REPEATS):
            if _found(session, options):
                break
            sleep(PAUSE_SECONDS)
    for call in (tag, *settings):
        patiently(session, call, sleep, (NotThere, Conflict))
    tell(f"bucket: created {name} (private, encrypted, TLS only)")


def asks_for_key(options: DeployOptions) -> bool:
    """Whether the encryption key of a given bucket matters: not if the role was given too, as its permissions are
    unknown."""
    return bool(options.bucket) and not options.kms_key and not options.role_arn


def patiently(
    session: Session, call: Call, sleep: Sleep, kinds: tuple[type[AwsError], ...] = (Conflict,)
) -> dict[str, Any]:
    """The answer to a call, retried for a while on these errors."""
    for _ in range(REPEATS - 1):
        try:
            return session.call(call.service, call.operation, call.request)
        except kinds:
            sleep(PAUSE_SECONDS)
    return session.call(call.service, call.operation, call.request)


def _found(session: Session, options: DeployOptions) -> bool:
    """Whether the bucket exists. Raises AwsError if it does but cannot be used."""
    name = bucket_name(options)
    owner = {} if options.bucket else {"ExpectedBucketOwner": options.account}
    try:
        answer = session.call("s3", "HeadBucket", {"Bucket": name, **owner})
    except NotThere:
        return False
    except Denied:
        raise AwsError(
            f"bucket: {name} belongs to another account, or denies {session.caller['arn']} access; "
            "give another as --bucket"
        ) from None
    place = answer.get("BucketRegion") or session.region
    if place != session.region:
        raise AwsError(
            f"bucket: {name} is in {place}, but a job reads and writes in its own region, {session.region}; "
            f"give --region {place}, or another --bucket"
        )
    return True


def _is_tagged(session: Session, bucket: str) -> bool:
    return OWNER[0] in _tags(session, bucket)


def _is_bare(session: Session, bucket: str) -> bool:
    """Whether the bucket has no content, tags or policy: a deployment was cut off between creating and tagging it, or
    somebody created it for wrn to set up."""
    if _tags(session, bucket):
        return False
    try:
        session.call("s3", "GetBucketPolicy", {"Bucket": bucket})
    except NotThere:
        return not session.call("s3", "ListObjectsV2", {"Bucket": bucket, "MaxKeys": 1}).get("Contents")
    return False


def _tags(session: Session, bucket: str) -> list[dict[str, str]]:
    try:
        return list(session.call("s3", "GetBucketTagging", {"Bucket": bucket})["TagSet"])
    except NotThere:
        return []


READERS: Mapping[str, tuple[str, str]] = {
    "PutPublicAccessBlock": ("GetPublicAccessBlock", "PublicAccessBlockConfiguration"),
    "PutBucketEncryption": ("GetBucketEncryption", "ServerSideEncryptionConfiguration"),
    "PutBucketPolicy": ("GetBucketPolicy", "Policy"),
    "PutBucketLifecycleConfiguration": ("GetBucketLifecycleConfiguration", ""),
}
"""For each request that sets something: the one that reads it, and the member of its answer (empty: all of it)."""

LISTS = {"Statement": "Sid", "Rules": "ID"}
"""Lists of which wrn owns some entries, and the key that identifies an entry; entries added by others stay."""


def _repair(session: Session, call: Call, sleep: Sleep) -> bool:
    """Send one settings request if the current settings differ. Settings added by others stay."""
    reader, member = READERS[call.operation]
    place = {key: value for key, value in call.request.items() if key in ("Bucket", "ExpectedBucketOwner")}
    (name, wanted) = next((key, value) for key, value in call.request.items() if key not in place)
    try:
        answer = session.call(call.service, reader, place)
        there: Any = answer.get(member, {}) if member else answer
    except NotThere:
        there = {}
    if call.operation == "PutBucketPolicy":
        there = json.loads(there) if there else {}
        wanted = json.loads(wanted)
    if covers(there, wanted):
        return False
    whole: Any = merged(there, wanted)
    if call.operation == "PutBucketPolicy":
        whole = to_json(whole)
    patiently(session, Call(call.service, call.operation, {**place, name: whole}), sleep)
    return True


def _is_encrypted(session: Session, bucket: str) -> bool:
    """Whether somebody chose an encryption for the bucket, which is then kept.

    Raises AwsError if it uses a key of their own, which jobs must be told about.
    """
    try:
        answer = session.call("s3", "GetBucketEncryption", {"Bucket": bucket})
    except NotThere:
        return False
    rules = answer["ServerSideEncryptionConfiguration"]["Rules"]
    chosen = [rule.get("ApplyServerSideEncryptionByDefault") or {} for rule in rules]
    for one in chosen:
        key = one.get("KMSMasterKeyID", "alias/aws/s3")
        if not key.endswith("alias/aws/s3"):
            fix = f"give the id or the ARN of {key} as --kms-key" if "alias/" in key else f"give --kms-key {key}"
            raise AwsError(f"bucket: {bucket} encrypts with a key of your own, which jobs need too: {fix}")
    return any(one.get("SSEAlgorithm") for one in chosen)


def covers(there: Any, wanted: Any) -> bool:
    """Whether everything wanted is there, whatever else is."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and covers(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(there, list) and all(any(covers(entry, one) for entry in there) for one in wanted)
    return bool(there == wanted)


def merged(there: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wanted, plus the entries of others under other names."""
    whole = dict(wanted)
    for member, name in LISTS.items():
        if member in wanted:
            ours = {entry.get(name) for entry in wanted[member]}
            others = [entry for entry in there.get(member, []) if entry.get(name) and entry[name] not in ours]
            whole[member] = [*wanted[member], *others]
    return whole


def _setting(call: Call) -> str:
    """`PutBucketPolicy` as "policy"."""
    words = {"PutPublicAccessBlock": "its block of public access", "PutBucketLifecycleConfiguration": "its lifecycle"}
    return words.get(call.operation, f"its {call.operation.removeprefix('PutBucket').lower()}")
