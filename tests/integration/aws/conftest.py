"""AWS on a loopback port for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("boto3", reason="needs the extra aws")
pytest.importorskip("moto", reason="needs the extra dev")

from standin import StandIn


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    server = StandIn(tmp_path_factory.mktemp("standin"))
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
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield _server
    troubles = [job.trouble for job in _server.training.jobs.values() if job.trouble]
    _server.reset()
    assert not troubles, "\n".join(troubles)
