"""The judges are here, or a test that needs them says how to get them; in CI that is a failure."""

from __future__ import annotations

import pytest

from tests.judges.programs import HOW_TO_INSTALL, missing


@pytest.fixture(scope="session")
def judges() -> None:
    """All three programs can be asked."""
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}; install them with {HOW_TO_INSTALL}")
