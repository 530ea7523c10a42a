"""AWS on a loopback port for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from standin import StandIn


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[StandIn]:
    pytest.importorskip("moto", reason="needs moto[server], of the extra dev")
    from standin import StandIn

    # A signal that comes before a program can take it is lost to process 1: no test shall wait 120 s for that.
    cache = {"XDG_CACHE_HOME": str(shared_cache)}  # else each job, in a home of its own, would compile its kernels
    server = StandIn(tmp_path_factory.mktemp("standin"), grace=20, environment=cache)
    server.start()
    yield server
    server.close()


@pytest.fixture
def aws(_server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """An empty account; boto3 and the aws command find it by the environment."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    yield _server
    troubles = [job.trouble for job in _server.training.jobs.values() if job.trouble]
    _server.reset()
    assert not troubles, "\n".join(troubles)


@pytest.fixture
def account(aws: StandIn) -> StandIn:
    """With a bucket, a role and one file of data."""
    from aws_account import furnish

    furnish(aws.account)
    return aws
