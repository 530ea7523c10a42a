"""The bucket of a deployment: made where it is missing, set right where it differs, refused where it is not ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from wrn.aws.faults import Conflict, Denied, NameInUse, NotThere
from wrn.aws.options import DeployOptions, bucket_name
from wrn.aws.requests.deployment import OWNER, Call, bucket_calls
from wrn.aws.session import Session
from wrn.errors import AwsError

REPEATS, PAUSE_SECONDS = 8, 1.0
"""Two deployments at once, or a bucket that has just been made, settle within seconds."""

Sleep = Callable[[float], None]


def ensure_bucket(
    session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep = time.sleep
) -> None:
    """Our bucket made or repaired; one that was named only looked at. One of our name that we did not make is taken as
    it is, or set up where it is bare; it never gets our tag, by which teardown removes a bucket whole.

    Raises AwsError where it belongs to someone else, lies in another region, or is named and not there; where it
    encrypts by a key that jobs could not use; and where rights are missing to make it.
    """
    try:
        _ensure(session, options, tell, sleep)
    except Denied as error:
        raise Denied(f"{error}; or give a bucket that is there already as --bucket") from None


def _ensure(session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep) -> None:
    name = bucket_name(options)
    if options.bucket:
        if not _found(session, options):
            raise AwsError(f"bucket: there is no {name}; create it, or leave out --bucket and one is made")
        if asks_for_key(options):
            with suppress(Denied):  # whoever may not look is not kept from deploying: most buckets have no such key
                _is_encrypted(session, name)
        return
    create, tag, *settings = bucket_calls(options)
    if _found(session, options):
        tagged = _is_tagged(session, name)
        # Asked once more at the end: another deployment may be at work on it.
        if not tagged and not _is_bare(session, name) and not _is_tagged(session, name):
            tell(f"bucket: {name} was not made by this program and is taken as it is")
            return
        if not tagged:
            tell(f"bucket: {name} was there, and bare: it is set up, and stays when all else goes (wrn teardown)")
        for call in settings:
            if call.operation == "PutBucketEncryption" and not options.kms_key and _is_encrypted(session, name):
                continue
            if _repair(session, call, sleep):
                tell(f"bucket: {name} differed in {_setting(call)}, which is right again")
        return
    try:
        patiently(session, create, sleep)
    except NameInUse:
        # Another deployment was quicker; or it is someone else's, which the next look tells.
        for _ in range(REPEATS):
            if _found(session, options):
                break
            sleep(PAUSE_SECONDS)
    for call in (tag, *settings):
        patiently(session, call, sleep, (NotThere, Conflict))
    tell(f"bucket: made {name} (private, encrypted, TLS only)")


def asks_for_key(options: DeployOptions) -> bool:
    """Whether it matters by which key a bucket that was named encrypts: not to a role that was named, too, whose rights
    are not ours to know."""
    return bool(options.bucket) and not options.kms_key and not options.role_arn


def patiently(
    session: Session, call: Call, sleep: Sleep, kinds: tuple[type[AwsError], ...] = (Conflict,)
) -> dict[str, Any]:
    """The answer to a call, repeated for a while where it fails in these ways."""
    for _ in range(REPEATS - 1):
        try:
            return session.call(call.service, call.operation, call.request)
        except kinds:
            sleep(PAUSE_SECONDS)
    return session.call(call.service, call.operation, call.request)


def _found(session: Session, options: DeployOptions) -> bool:
    """Whether the bucket is there. Raises AwsError where it is and cannot be used."""
    name = bucket_name(options)
    owner = {} if options.bucket else {"ExpectedBucketOwner": options.account}
    try:
        answer = session.call("s3", "HeadBucket", {"Bucket": name, **owner})
    except NotThere:
        return False
    except Denied:
        raise AwsError(
            f"bucket: {name} belongs to another account, or refuses {session.caller['arn']}; give another as --bucket"
        ) from None
    place = answer.get("BucketRegion") or session.region
    if place != session.region:
        raise AwsError(
            f"bucket: {name} lies in {place}, and a job reads and writes in its own region, {session.region}; "
            f"give --region {place}, or another --bucket"
        )
    return True


def _is_tagged(session: Session, bucket: str) -> bool:
    return OWNER[0] in _tags(session, bucket)


def _is_bare(session: Session, bucket: str) -> bool:
    """Whether there is nothing in it and on it: so it is left by a deployment that was cut off between making and
    tagging it, or by somebody who made it for us and leaves the rest to us."""
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
"""For each request that sets something: the one that reads it, and where in its answer it is (empty: on top)."""

LISTS = {"Statement": "Sid", "Rules": "ID"}
"""Lists of which we own some entries, and what names an entry; what others have added stays."""


def _repair(session: Session, call: Call, sleep: Sleep) -> bool:
    """Set right what one request would set, if it differs. What was added beside it stays."""
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
        whole = json.dumps(whole)
    patiently(session, Call(call.service, call.operation, {**place, name: whole}), sleep)
    return True


def _is_encrypted(session: Session, bucket: str) -> bool:
    """Whether the bucket is encrypted as somebody chose, which stays as it is.

    Raises AwsError where that is by a key of theirs: a job may use it only if it is told.
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
            raise AwsError(f"bucket: {bucket} encrypts by a key of yours, which jobs need, too: {fix}")
    return any(one.get("SSEAlgorithm") for one in chosen)


def covers(there: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there, whatever else is."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and covers(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(there, list) and all(any(covers(entry, one) for entry in there) for one in wanted)
    return bool(there == wanted)


def merged(there: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wanted, with the entries of others that have names of their own."""
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
