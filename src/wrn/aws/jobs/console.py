"""Addresses of a job in AWS's web console."""

from __future__ import annotations

from wrn.aws.account.names import LOG_GROUP
from wrn.aws.account.partitions import partition

_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""By partition: botocore's data about partitions does not name them. There are others without a public one."""


def job_url(region: str, name: str) -> str | None:
    """None where no console is known."""
    root = _root(region)
    return root and f"{root}/sagemaker/home?region={region}#/jobs/{name}"


def logs_url(region: str, name: str) -> str | None:
    """None where no console is known. It expects the part after # encoded twice, with $ for %."""
    root, group = _root(region), LOG_GROUP.replace("/", "$252F")
    return root and (
        f"{root}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}"
        f"$3FlogStreamNameFilter$3D{name}$252F"
    )


def _root(region: str) -> str | None:
    host = _HOSTS.get(partition(region))
    return host and f"https://{region}.{host}"
