"""Spending of a ledger in memory, worked out from its events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from domain.account.decision import account_id
from projections.spending import (
    SAMPLE_TEAMS_MAX,
    History,
    SpendingPage,
    SpendingRow,
    history_of,
    spending_of,
)
from tests.memory_store import MemoryLedger


class MemorySpending:
    """The view on spending."""

    def __init__(self, memory: MemoryLedger) -> None:
        self._memory = memory

    def spent(self, team_id: str, since: date, until: date) -> SpendingPage:
        """The rows, as of the last event."""
        team = self._memory.teams.get(team_id)
        if team is None:
            return SpendingPage([], 0)
        return SpendingPage(self._rows(team_id, since, until), team.events[-1].position)

    def sample(self, team_id: str, since: date, until: date) -> Sequence[History]:
        """The histories of the other teams, as of the last event."""
        others = sorted((each for each in self._memory.teams if each != team_id), key=account_id)
        found: list[History] = []
        for other in others[:SAMPLE_TEAMS_MAX]:
            net: dict[date, int] = {}
            for row in self._rows(other, since, until):
                net[row.day] = net.get(row.day, 0) + row.net_micros
            if (history := history_of(other, net, until)) is not None:
                found.append(history)
        return found

    def _rows(self, team_id: str, since: date, until: date) -> list[SpendingRow]:
        events = self._memory.teams[team_id].events
        rows = spending_of(((stored.version, stored.event) for stored in events), 0, team_id)
        return [row for row in rows if since <= row.day < until]
