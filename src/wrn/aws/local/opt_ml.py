"""The folder /opt/ml of a training job: what the platform puts there before, and collects afterwards."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wrn.errors import AwsError
from wrn.filesystem import is_dir
from wrn.strict_json import to_json

Fill = Callable[[str, Path], None]
"""Called with a channel's address (s3://...) and the empty folder for its files."""

OPT_ML = "/opt/ml"

FOLDERS = ("input/config", "input/data", "model", "output/data", "checkpoints", "code")

GROUP = "homogeneousCluster"
"""The platform's name for the instances of a job with a single instance type."""

LONGEST_REASON = 1024
"""Characters of FailureReason."""


def lay_out(root: Path, request: Mapping[str, Any], *, host: str, hosts: Sequence[str]) -> None:
    """Create the folders and the files of input/config for one host of the job. Existing content stays."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    instance = request.get("ResourceConfig", {}).get("InstanceType", "local")
    group = {"instance_group_name": GROUP, "instance_type": instance, "hosts": list(hosts)}
    config: dict[str, Any] = {
        "hyperparameters": dict(request.get("HyperParameters", {})),
        "inputdataconfig": {channel["ChannelName"]: _facts(channel) for channel in channels(request)},
        "resourceconfig": {
            "current_host": host,
            "current_instance_type": instance,
            "current_group_name": GROUP,
            "hosts": list(hosts),
            "instance_groups": [group],
            "network_interface_name": "lo",  # eth0 on AWS; here the hosts communicate over loopback
        },
    }
    if "CheckpointConfig" in request:
        config["checkpointconfig"] = request["CheckpointConfig"]
    for name, content in config.items():
        (root / f"input/config/{name}.json").write_text(to_json(content), encoding="utf-8")


def fill_channels(root: Path, request: Mapping[str, Any], fill: Fill) -> None:
    """Put each channel's files into input/data/<channel>."""
    for channel in channels(request):
        folder = root / "input/data" / channel["ChannelName"]
        folder.mkdir()
        fill(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)


def channels(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input channels. Raises AwsError for those whose data is not files in S3."""
    found: list[dict[str, Any]] = list(request.get("InputDataConfig", []))
    for channel in found:
        name = channel["ChannelName"]
        mode = channel.get("InputMode") or request["AlgorithmSpecification"].get("TrainingInputMode", "File")
        if mode not in ("File", "FastFile") or "S3DataSource" not in channel["DataSource"]:
            raise AwsError(f"channel {name}: a local job only takes files from S3; use the input mode File")
    return found


def failure_reason(root: Path, exit_code: int) -> str:
    """FailureReason of a failed job: the start of output/failure and the exit code, 1,024 characters in all."""
    try:
        told = (root / "output/failure").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    end = f", exit code: {exit_code}"
    start = "AlgorithmError: "
    return f"{start}{told[: LONGEST_REASON - len(start) - len(end)]}{end}"


def pack(folders: Iterable[Path], archive: Path) -> Path | None:
    """The files of all these folders as one .tar.gz; None (and no archive) if there are none.

    Of two files with the same name, that of the first folder wins.
    """
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not is_dir(path) or path.is_symlink():
                files.setdefault(path.relative_to(folder).as_posix(), path)
    if not files:
        archive.unlink(missing_ok=True)
        return None
    partial = archive.with_name(f".{archive.name}")
    # Weights hardly compress, so use the fastest level.
    with tarfile.open(partial, "w:gz", compresslevel=1) as packed:
        for name, path in sorted(files.items()):
            packed.add(path, name, recursive=False)
    return partial.replace(archive)


def _facts(channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    facts = {
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return facts | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})
