"""Prints what became of every planted bug."""

from __future__ import annotations

import pytest

from tests.planted.planting import CAUGHT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The catch table: each bug, the report it is modelled on, and the test that turned red."""
    if not CAUGHT:
        return
    terminalreporter.section("planted bugs")
    for name, catch in CAUGHT.items():
        verdict = "caught" if catch.red else "MISSED"
        terminalreporter.write_line(f"{verdict:7}{name:66}{catch.source or 'a slip':48}{catch.by}")
    red = sum(bool(catch.red) for catch in CAUGHT.values())
    cited = sum(catch.source is not None for catch in CAUGHT.values())
    terminalreporter.write_line(f"{red} of {len(CAUGHT)} caught, {cited} of them modelled on public reports")
