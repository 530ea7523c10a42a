"""The names and tags by which wrn finds what it made in an account."""

from __future__ import annotations

import re

from wrn.aws.account.partitions import REGION

ROLE_NAME = "wrn-training"


OWNER_TAG = ("created-by", "wrn")
"""On everything that is created in the account; teardown finds by it what to remove."""


USER_TAG = "wrn-user"
"""On jobs: who started them, so that no teardown stops another user's jobs by mistake."""

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
"""Of all training jobs of an account, and the namespace of their metrics; a job's streams: `<job>/<host>-<moment>`."""


def own_bucket(account: str, region: str) -> str:
    """The bucket that is created if none is given. Once it is removed, anyone may take the name."""
    return f"wrn-{account}-{region}"


def policy_region(name: str) -> str:
    """The region of a policy that `policy_name` named; empty for other names."""
    found = re.fullmatch(rf"{ROLE_NAME}-({REGION})(?:-[0-9a-f]{{8}})?", name)
    return found[1] if found else ""


def dashboard_name(region: str) -> str:
    """Dashboards belong to the account, not to a region."""
    return f"wrn-{region}"


def user_of(arn: str) -> str:
    """The owner of the credentials with this ARN, as a tag value: its last part, the name of a user or a session.

    The generated name of an unnamed session changes every time; the role's name is used instead.
    """
    *_, role, name = ["", *re.split("[:/]", arn)]
    if re.fullmatch(r"(?i)(?:botocore-session-|aws-cli-session-|aws-sdk-[a-z-]*)?\d{9,}", name):
        name = role
    return re.sub(r"[^\w.:/=+@ -]", "_", name)[:256]


PREFIX = "wrn"
"""Everything that wrn puts into the bucket is under this."""
