"""Teams on which something is due, found by the index of due instants, a portion at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from psycopg.rows import tuple_row

from infra.postgres.ledger_store import Clock, database_clock
from infra.postgres.shards import ShardMap

PORTION_TEAMS = 200


class DueTeams:
    """Looks up due teams; told no other clock, the database's decides what is due."""

    def __init__(self, shards: ShardMap, *, clock: Clock | None = None) -> None:
        self._shards = shards
        self._clock = clock or database_clock

    def teams(self) -> Iterator[str]:
        """Every team whose next due instant has come when its shard is looked at, each once, the longest due first.

        No connection is kept while a team is handled. Raises: psycopg.OperationalError.
        """
        for shard in range(self._shards.count):
            now, portion = self._portion(shard, None, None)
            while portion:
                yield from (team_id for _, team_id in portion)
                _, portion = self._portion(shard, now, portion[-1])

    def _portion(
        self, shard: int, now: datetime | None, after: tuple[datetime, str] | None
    ) -> tuple[datetime, list[tuple[datetime, str]]]:
        beyond = "" if after is None else " AND (next_due_at, team_id) > (%s, %s)"
        with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            now = now or self._clock(cursor)
            cursor.execute(
                "SELECT next_due_at, team_id FROM account_head WHERE shard = %s AND next_due_at <= %s"  # noqa: S608 - constants
                f"{beyond} ORDER BY next_due_at, team_id LIMIT %s",
                (shard, now, *(after or ()), PORTION_TEAMS),
                binary=True,
            )
            return now, cursor.fetchall()
