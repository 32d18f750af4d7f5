"""One team's stream, read in version order and a portion at a time, so that a history of any length fits."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from domain.account.decision import account_id
from domain.account.events import RecordedEvent
from infra.postgres.mapper import ACCOUNT_SHAPES
from infra.postgres.shards import ShardMap

FETCH_ROWS = 1_000


class PostgresEvents:
    """The streams of an installation, as ``projections.replay.EventSource``."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """As the port says; the connection is the caller's until the last event is read or the reading is closed.

        Raises: UnknownEventShape for a shape newer than the code.
        """
        shard, originator = self._shards.shard_of(team_id), account_id(team_id)
        with (
            self._shards.connection_for(shard) as connection,
            connection.transaction(),
            connection.cursor("history", row_factory=psycopg.rows.tuple_row) as cursor,
        ):
            cursor.itersize = FETCH_ROWS
            cursor.format = psycopg.pq.Format.BINARY
            cursor.execute(
                "SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
                " AND originator_version > %s AND originator_version <= %s ORDER BY originator_version",
                (shard, originator, after, 2**62 if until is None else until),
            )
            for version, topic, state in cursor:
                yield RecordedEvent(originator, version, ACCOUNT_SHAPES.decode(topic, state))
