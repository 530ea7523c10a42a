"""AWS's partitions (aws, aws-cn, aws-us-gov, aws-eusc ...), as botocore's own data describes them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from wrn.errors import AwsError

REGION = r"[a-z]{2,}(?:-[a-z]+)+-\d+"
"""The form of a region's name, also of one that the installed botocore does not know yet."""


@dataclass(frozen=True)
class Partition:
    """A group of regions with accounts, ARNs and host names of their own."""

    name: str
    """The second part of every ARN."""
    dns_suffix: str
    """The end of the names of its hosts."""


def partition(region: str) -> str:
    """The name of a region's partition."""
    return partition_of(region).name


@functools.cache
def partition_of(region: str) -> Partition:
    """Raises AwsError without botocore, except for regions whose names have the form of the partition `aws`."""
    try:
        from botocore.loaders import create_loader
    except ImportError:
        if re.fullmatch(r"(?!cn-)[a-z]{2}-[a-z]+-\d+", region):  # `wrn plan` works without botocore
            return Partition("aws", "amazonaws.com")
        raise AwsError(
            f"region: {region} has its own addresses; install boto3, which knows them: pip install 'wrn-cifar[aws]'"
        ) from None
    known = create_loader().load_data("partitions")["partitions"]
    # As botocore does: by name, else by form, else the first, `aws`.
    found = next((entry for entry in known if region in entry["regions"]), None)
    found = found or next((entry for entry in known if re.match(entry["regionRegex"], region)), known[0])
    return Partition(found["id"], found["outputs"]["dnsSuffix"])
