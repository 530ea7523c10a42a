from __future__ import annotations

import pytest

from wrn.kernels import native


@pytest.fixture
def compiled() -> None:
    """The kernels, compiled on this machine."""
    if not native.available():
        pytest.skip("no C++ compiler here")
