"""Spending of a ledger in memory, worked out from its events."""

from __future__ import annotations

from datetime import date

from projections.spending import SpendingPage, spending_of
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
        rows = spending_of(((stored.version, stored.event) for stored in team.events), 0, team_id)
        position = team.events[-1].position
        return SpendingPage([row for row in rows if since <= row.day < until], position)
