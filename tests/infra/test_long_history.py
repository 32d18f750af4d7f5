"""The bench of a long history measures what it says, on a short one."""

from __future__ import annotations

import pytest

from infra.local.postgres import LocalPostgres
from tests.bench import long_history

WANTED = ("history_1m_vs_1k", "replay_events_per_second", "load_1m_team_ms", "balance_as_of_ms")


def test_a_long_history_is_measured_whole(
    postgres_server: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {
        "ROUNDS": 1,
        "ROUND_RECORDS": 100,
        "SHORT_EVENTS": 100,
        "READS": 2,
        "LOADS": 3,
        "PRINTED_STEPS": 50,
    }
    for name, size in sizes.items():
        monkeypatch.setattr(long_history, name, size)

    figures = long_history.measure(postgres_server, 2_200)

    assert all(figures[key] > 0 for key in WANTED)
    assert figures["kept_snapshots"] == 2
