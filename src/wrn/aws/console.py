"""Addresses of a job in AWS's web console."""

from __future__ import annotations

from wrn.aws.options import partition

LOG_GROUP = "/aws/sagemaker/TrainingJobs"

_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def job_url(region: str, name: str) -> str:
    return f"{_root(region)}/sagemaker/home?region={region}#/jobs/{name}"


def logs_url(region: str, name: str) -> str:
    """The console expects the part after # encoded twice, with $ for %."""
    group = LOG_GROUP.replace("/", "$252F")
    return (
        f"{_root(region)}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{group}"
        f"$3FlogStreamNameFilter$3D{name}$252F"
    )


def _root(region: str) -> str:
    return f"https://{region}.{_HOSTS[partition(region)]}"
