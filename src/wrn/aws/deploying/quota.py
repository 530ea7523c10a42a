"""Whether the account may have the instances at all: asked before a long upload, where asking is allowed."""

from __future__ import annotations

from wrn.aws.faults import QuotaReached
from wrn.aws.options import DeployOptions
from wrn.aws.session import Session
from wrn.errors import AwsError


def check_quota(session: Session, options: DeployOptions) -> None:
    """Raises QuotaReached where the account's quota is below what is asked for; says nothing where it is not known."""
    kind = "spot training job usage" if options.spot else "training job usage"
    fixes = {f"{options.instance_type} for {kind}": "name others with --fallback"}
    if options.keep_warm:  # a quota of its own, of which an account has 0 at first
        fixes[f"{options.instance_type} for training warm pool usage"] = "leave out --keep-warm"
    try:
        quotas = _quotas(session, set(fixes))
    except AwsError:
        return  # it is only a courtesy: CreateTrainingJob refuses all the same
    for name, fix in fixes.items():
        quota = quotas.get(name)
        if quota is not None and quota < options.instance_count:
            raise QuotaReached(
                f"quota: the account may use {quota:g} of the {options.instance_count} instances asked for in "
                f"{options.region} ({name!r}); ask for more under Service Quotas in the console, or {fix}"
            )


def _quotas(session: Session, names: set[str]) -> dict[str, float]:
    """SageMaker's quotas of these names, as far as there are any. There is no way to ask by name: thousands are listed,
    100 a time."""
    found: dict[str, float] = {}
    for entry in session.pages("service-quotas", "ListServiceQuotas", "Quotas", {"ServiceCode": "sagemaker"}):
        if entry.get("QuotaName") in names:
            found[entry["QuotaName"]] = float(entry["Value"])
        if len(found) == len(names):
            break
    return found
