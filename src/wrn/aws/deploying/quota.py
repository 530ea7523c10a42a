"""Whether the account may have the instances at all: asked before a long upload, where asking is allowed."""

from __future__ import annotations

from wrn.aws.faults import QuotaReached
from wrn.aws.options import DeployOptions
from wrn.aws.session import Session
from wrn.errors import AwsError


def check_quota(session: Session, options: DeployOptions) -> None:
    """Raises QuotaReached where the account's quota is below what is asked for; says nothing where it is not known."""
    kind = "spot training job usage" if options.spot else "training job usage"
    name = f"{options.instance_type} for {kind}"
    try:
        quota = _quota(session, name)
    except AwsError:
        return  # it is only a courtesy: CreateTrainingJob refuses all the same
    if quota is not None and quota < options.instance_count:
        raise QuotaReached(
            f"quota: the account may use {quota:g} of the {options.instance_count} instances asked for in "
            f"{options.region} ({name!r}); ask for more under Service Quotas in the console, or name others with "
            "--fallback"
        )


def _quota(session: Session, name: str) -> float | None:
    """The value of SageMaker's quota of this name. There is no way to ask by name: thousands are listed, 100 a time."""
    for entry in session.pages("service-quotas", "ListServiceQuotas", "Quotas", {"ServiceCode": "sagemaker"}):
        if entry.get("QuotaName") == name:
            return float(entry["Value"])
    return None
