"""How many processes train together and which of them this is, according to the environment.

torchrun (and SageMaker's torch_distributed launcher, which is torchrun) sets RANK, WORLD_SIZE and LOCAL_RANK for each
process it starts. On SageMaker without it, the container knows its hosts and GPUs, and wrn starts torchrun.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrn.config.paths import sagemaker_base
from wrn.errors import ConfigError
from wrn.filesystem import is_file

MASTER_PORT = "7777"
"""Where the first host of a SageMaker job listens for the others."""


@dataclass(frozen=True)
class Place:
    """One process among those that train together.

    rank: 0..world_size-1, over all hosts. local_rank: on this host, also the index of its GPU.
    attempt: how often torchrun has restarted all processes. may_restart: whether it does so when one fails.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    host: str = ""
    attempt: int = 0
    may_restart: bool = False


@dataclass(frozen=True)
class Cluster:
    """The hosts of a SageMaker job, the index of this one, and the network interface that connects them."""

    hosts: tuple[str, ...]
    current: int
    interface: str = ""


def place(environ: Mapping[str, str] | None = None) -> Place:
    """This process's place. Raises ConfigError if the environment defines it only partly, or with a non-number."""
    environ = os.environ if environ is None else environ
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    given = [name for name in names if name in environ]
    if not {"RANK", "WORLD_SIZE"} & set(given):
        return Place(host=socket.gethostname())
    if len(given) < len(names):
        missing = ", ".join(name for name in names if name not in environ)
        raise ConfigError(f"{missing} not set, but {', '.join(given)} are; start several processes with torchrun")
    return Place(
        rank=_number(environ, "RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        local_rank=_number(environ, "LOCAL_RANK"),
        host=environ.get("SM_CURRENT_HOST") or socket.gethostname(),
        attempt=_number(environ, "TORCHELASTIC_RESTART_COUNT"),
        may_restart=_number(environ, "TORCHELASTIC_MAX_RESTARTS") > 0,
    )


def _number(environ: Mapping[str, str], name: str) -> int:
    """The variable as a number; 0 if it is not set."""
    text = environ.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f'{name} is "{text}", not a number; start several processes with torchrun') from None


def under_torchrun(environ: Mapping[str, str] | None = None) -> bool:
    return "RANK" in (os.environ if environ is None else environ)


REHEARSAL_VARIABLE = "WRN_REHEARSAL"
"""Set in a rehearsed job, which looks as on SageMaker but runs on the user's machine."""


def in_rehearsal(environ: Mapping[str, str]) -> bool:
    return REHEARSAL_VARIABLE in environ


def cluster(environ: Mapping[str, str] | None = None) -> Cluster | None:
    """The hosts of the SageMaker job that this process runs in, from SM_* or the platform's own file; else None.

    The platform names hosts algo-1, algo-2, ...; the first by name is the master, as in the platform's own launcher.
    Raises ConfigError when what they say cannot be read.
    """
    environ = os.environ if environ is None else environ
    base = sagemaker_base(environ)
    if base is None:
        return None
    try:
        facts = _resource_config(environ, base)
        hosts = json.loads(environ["SM_HOSTS"]) if "SM_HOSTS" in environ else facts.get("hosts", ["localhost"])
        if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) for host in hosts):
            raise ValueError(f"{hosts!r} is no list of names")
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the hosts of the job cannot be read ({error}); SM_HOSTS must be as the platform sets it: "
            '["algo-1", "algo-2"]'
        ) from None
    current = environ.get("SM_CURRENT_HOST") or facts.get("current_host") or hosts[0]
    if current not in hosts:
        raise ConfigError(f"SM_CURRENT_HOST {current} is not one of the hosts {', '.join(hosts)}")
    return Cluster(tuple(sorted(hosts)), sorted(hosts).index(current), facts.get("network_interface_name", ""))


def _resource_config(environ: Mapping[str, str], base: Path) -> dict[str, Any]:
    text = environ.get("SM_RESOURCE_CONFIG")
    if text is None:
        try:
            text = (base / "input/config/resourceconfig.json").read_text(encoding="utf-8")
        except OSError:
            return {}
    return dict(json.loads(text))


def torchrun_arguments(processes: int, where: Cluster | None) -> list[str]:
    """Flags of `python -m torch.distributed.run` for this many processes on each host."""
    if where is None or len(where.hosts) == 1:
        return ["--standalone", f"--nproc-per-node={processes}"]
    return [
        f"--nnodes={len(where.hosts)}",
        f"--node-rank={where.current}",
        f"--nproc-per-node={processes}",
        f"--master-addr={where.hosts[0]}",
        f"--master-port={MASTER_PORT}",
    ]


def hyperparameter_flags(environ: Mapping[str, str] | None = None) -> list[str]:
    """The hyperparameters of the SageMaker job that this process runs in, as flags; empty elsewhere.

    SageMaker's toolkit itself turns hyperparameters into flags (and sets SM_HPS); a job started by wrn's own entry
    point has only the platform's file. Keys meant only for the toolkit or the tuner are omitted.
    Raises ConfigError if the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    base = sagemaker_base(environ)
    path = None if base is None else base / "input/config/hyperparameters.json"
    if path is None or "SM_HPS" in environ or not is_file(path):
        return []
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); the job's hyperparameters must be a map") from None
    return [
        f"--{key.replace('_', '-')}={value}"
        for key, value in values.items()
        if not key.startswith(("sagemaker_", "_tuning_"))
    ]
