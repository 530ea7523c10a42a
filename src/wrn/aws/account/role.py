"""The role of training jobs: created if missing, its policy repaired if it differs; policies of others stay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wrn.aws.account.bucket import Sleep, covers, patiently
from wrn.aws.account.errors import Conflict, Denied, LimitReached, NameInUse, NotThere
from wrn.aws.account.names import OWNER_TAG
from wrn.aws.account.session import Session
from wrn.aws.jobs.calls import Call, role_calls
from wrn.aws.jobs.options import DeployOptions, role_arn
from wrn.errors import AwsError
from wrn.strict_json import to_json

FRESH_SECONDS = 300
"""For this long after its creation, perhaps by a concurrent deployment, a role may not have propagated everywhere.
When its permissions were set is only known for those set here."""


@dataclass(frozen=True)
class Role:
    """The role of a job. fresh: it or its permissions are so new that SageMaker may not know them yet."""

    arn: str
    fresh: bool


def ensure_role(
    session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep = time.sleep
) -> Role:
    """The role with its ARN as IAM gives it: a role may have a path, as those of SageMaker's console do.

    A role given by --role-arn is not inspected. One with wrn's name that wrn did not create is used unchanged.
    Raises AwsError if permissions to create it are missing.
    """
    if options.role_arn:
        return Role(options.role_arn, fresh=False)
    try:
        return _ensure(session, options, tell, sleep)
    except LimitReached as error:
        raise LimitReached(
            f"{error}; the role {options.role_name} has no room for more policies: `wrn teardown --region R` removes "
            "those for a region that is no longer used (see --dry-run); or remove policies wrn-training-* that no job "
            "uses any more, or give another --role-name"
        ) from None
    except Denied as error:
        raise Denied(f"{error}; or give an existing role as --role-arn") from None


def _ensure(session: Session, options: DeployOptions, tell: Callable[[str], None], sleep: Sleep) -> Role:
    name, arn = options.role_name, role_arn(options)
    create, *rights = role_calls(options)
    made = fresh = False
    role = _role(session, name)
    if role is not None:
        arn = str(role["Arn"])
    if role is None:
        try:
            arn = str(patiently(session, create, sleep)["Role"]["Arn"])
            tell(f"role: created {name}")
        except NameInUse:
            pass  # created by a concurrent deployment
        made = fresh = True
    elif {"Key": OWNER_TAG[0], "Value": OWNER_TAG[1]} not in role.get("Tags", []):
        if "sagemaker.amazonaws.com" not in to_json(role.get("AssumeRolePolicyDocument")):
            raise AwsError(
                f"role: {name} was not created by wrn and does not trust sagemaker.amazonaws.com; "
                "give another --role-name, or let SageMaker assume it"
            )
        tell(f"role: {name} was not created by wrn and is used unchanged")
        return Role(arn, fresh=False)
    elif not covers(role.get("AssumeRolePolicyDocument"), trust := json.loads(create.request[TRUST])):
        request = {"RoleName": name, "PolicyDocument": to_json(trust)}
        patiently(session, Call("iam", "UpdateAssumeRolePolicy", request), sleep)
        tell(f"role: {name} trusts SageMaker again")
        fresh = True
    if role is not None and "CreateDate" in role:
        fresh = fresh or time.time() - role["CreateDate"].timestamp() < FRESH_SECONDS
    for call in rights:
        if call.operation == "AttachRolePolicy":
            patiently(session, call, sleep)
        elif made or not _has(session, call.request):
            # A role that was just created may not have propagated everywhere yet.
            patiently(session, call, sleep, (NotThere, Conflict))
            fresh = True
            if not made:
                tell(f"role: set the permissions of {name} for this deployment")
    return Role(arn, fresh)


TRUST = "AssumeRolePolicyDocument"


def _role(session: Session, name: str) -> dict[str, Any] | None:
    try:
        return dict(session.call("iam", "GetRole", {"RoleName": name})["Role"])
    except NotThere:
        return None


def _has(session: Session, request: dict[str, Any]) -> bool:
    """Whether a role has exactly this policy: an extra permission is removed as well."""
    asked = {"RoleName": request["RoleName"], "PolicyName": request["PolicyName"]}
    try:
        there = session.call("iam", "GetRolePolicy", asked)["PolicyDocument"]
    except NotThere:
        return False
    return bool(there == json.loads(request["PolicyDocument"]))
