"""Fixtures for all tests: no test reads the machine's own data or environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from mocked_aws import Faults

REAL_DATA = os.environ.get("WRN_DATA_DIR")

# Tiny tensors gain nothing from more threads, and on a busy machine threads that wait for each other cost a lot. The
# programs that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# Examples are the same on every machine, and none is a failure for being slow: on a busy machine any may be.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(config.option, "loadgroup", False) and (group := item.get_closest_marker("xdist_group")):
            keep_group(item, group.args[0])
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "real_data" in item.keywords and not REAL_DATA:
            item.add_marker(pytest.mark.skip(reason="needs CIFAR-100 under WRN_DATA_DIR"))


def keep_group(item: pytest.Item, group: str) -> None:
    """Show a test's group in its id, from which pytest-xdist takes it: 3.8 writes it where pytest 9.2 does not look."""
    if not item.nodeid.endswith(f"@{group}"):
        item._id = type(item._id).parse(f"{item.nodeid}@{group}")
    assert item.nodeid.endswith(f"@{group}"), "its tests would run at the same time"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: one for each CPU that this process may use, and at most eight, as each imports torch."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 8)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(pytestconfig: pytest.Config) -> Iterator[Path]:
    """The user's cache folder for this process and what it starts: kernels are compiled once for all workers and runs.

    Not by WRN_CACHE_DIR, which would also move decoded images there from beside their data.
    """
    folder = pytestconfig.rootpath / ".pytest_cache/shared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither SageMaker's variables nor the developer's data folder leak into a test."""
    for name in list(os.environ):
        if name.startswith("SM_") or name in ("WRN_DATA_DIR", "WRN_CACHE_DIR", "SAGEMAKER_BASE_DIR"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _new_login() -> Iterator[None]:
    """A process keeps what it read of AWS's configuration; a test has its own."""
    yield
    if credentials := sys.modules.get("wrn.aws.account.credentials"):
        credentials.forget_sessions()


@pytest.fixture(autouse=True)
def _usual_floats() -> Iterator[None]:
    """`wrn train` takes denormal numbers as 0 for its whole process; here that is also the tests' process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def real_data() -> Path:
    """The folder with the real CIFAR-100; tests that use it are marked `real_data`."""
    assert REAL_DATA is not None
    return Path(REAL_DATA)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An account of moto's with nothing in it, in front of which faults can be planned."""
    pytest.importorskip("moto", reason="needs the extra dev")
    from mocked_aws import mocked_account

    with mocked_account(monkeypatch) as faults:
        yield faults
