"""Whether the account's quota allows the instances: checked before a long upload, if permitted."""

from __future__ import annotations

from wrn.aws.account.errors import QuotaReached
from wrn.aws.account.session import Session
from wrn.aws.jobs.options import DeployOptions
from wrn.errors import AwsError


def check_quota(session: Session, options: DeployOptions) -> None:
    """Raises QuotaReached if the account's quota is below the requested number; does nothing if it is unknown."""
    kind = "spot training job usage" if options.spot else "training job usage"
    fixes = {f"{options.instance_type} for {kind}": "name others with --fallback"}
    if options.keep_warm:  # a separate quota, 0 in a new account
        fixes[f"{options.instance_type} for training warm pool usage"] = "leave out --keep-warm"
    try:
        quotas = _quotas(session, set(fixes))
    except AwsError:
        return  # only a convenience check: CreateTrainingJob refuses anyway
    for name, fix in fixes.items():
        quota = quotas.get(name)
        if quota is not None and quota < options.instance_count:
            raise QuotaReached(
                f"quota: the account may use {quota:g} of the {options.instance_count} requested instances in "
                f"{options.region} ({name!r}); ask for more under Service Quotas in the console, or {fix}"
            )


def _quotas(session: Session, names: set[str]) -> dict[str, float]:
    """SageMaker's quotas with these names, if they exist. They cannot be requested by name: thousands are listed, 100
    at a time."""
    found: dict[str, float] = {}
    for entry in session.pages("service-quotas", "ListServiceQuotas", "Quotas", {"ServiceCode": "sagemaker"}):
        if entry.get("QuotaName") in names:
            found[entry["QuotaName"]] = float(entry["Value"])
        if len(found) == len(names):
            break
    return found
