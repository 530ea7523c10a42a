"""What tests that compile have in common."""

from __future__ import annotations

import pytest

COMPILING = pytest.mark.filterwarnings(
    *(f"ignore::{kind}Warning" for kind in ("Deprecation", "Future", "User", "Runtime"))
)
"""torch.compile imports modules that torch itself deprecated, and complains of Python 3.13.0."""
