"""An account that does not exist, in this process."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest


@functools.cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


@pytest.fixture
def one_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every boto3 session reads the services' descriptions anew, megabytes of JSON; here they share them."""
    monkeypatch.setattr("botocore.session.create_loader", lambda path: _loader())


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, one_loader: None) -> Iterator[None]:
    """Empty, with credentials that are worth nothing, in eu-west-1."""
    moto = pytest.importorskip("moto", reason="needs the extra dev")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with moto.mock_aws():
        yield
