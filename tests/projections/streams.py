"""Streams and statement rows in memory, for rules that need no store."""

from __future__ import annotations

from collections.abc import Iterable

from domain.account.decision import account_id
from domain.account.events import AccountEvent, RecordedEvent
from projections.moves import NOTHING, sums_after
from projections.statement import StatementRow, rows_of


def stream_of(events: Iterable[AccountEvent], team_id: str = "acme") -> list[RecordedEvent]:
    """The events at their places in the team's stream."""
    return [RecordedEvent(account_id(team_id), version, event) for version, event in enumerate(events, 1)]


def rows_of_stream(
    events: Iterable[AccountEvent], team_id: str = "acme", shard: int = 0
) -> list[StatementRow]:
    """The whole statement of the stream."""
    rows: list[StatementRow] = []
    sums = NOTHING
    for recorded in stream_of(events, team_id):
        rows += rows_of(recorded, shard, team_id, sums)
        sums = sums_after(recorded.event, sums)
    return rows
