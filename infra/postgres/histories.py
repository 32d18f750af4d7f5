"""One team's streams, read in version order and a portion at a time, so that a history of any length fits."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from domain.account.decision import account_id
from domain.account.events import RecordedEvent
from domain.team.events import RecordedTeamEvent
from domain.team.state import team_stream_id
from infra.postgres.archived import refuse_archived, without_gap
from infra.postgres.mapper import ACCOUNT_SHAPES, TEAM_SHAPES
from infra.postgres.shards import ShardMap

FETCH_ROWS = 1_000


class PostgresEvents:
    """The streams of an installation, as ``projections.replay.EventSource``."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """As the port says; the connection is the caller's until the last event is read or the reading is closed.

        Raises: UnknownEventShape for a shape newer than the code; EventsArchived.
        """
        originator = account_id(team_id)
        for version, topic, state in self._stored(team_id, originator, after, until):
            yield RecordedEvent(originator, version, ACCOUNT_SHAPES.decode(topic, state))

    def team_ids(self) -> Iterator[str]:
        """Every team that has an account, shard by shard, by name."""
        for shard in range(self._shards.count):
            with self._shards.connection_for(shard) as connection:
                rows = connection.execute(
                    "SELECT team_id FROM account_head WHERE shard = %s ORDER BY team_id", (shard,)
                ).fetchall()
            yield from (team_id for (team_id,) in rows)

    def has(self, team_id: str) -> bool:
        """Whether the team has an account."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            found = connection.execute(
                "SELECT 1 FROM account_head WHERE shard = %s AND team_id = %s", (shard, team_id)
            )
            return found.fetchone() is not None

    def paperwork(
        self, team_id: str, after: int = 0, until: int | None = None
    ) -> Iterator[RecordedTeamEvent]:
        """What happened to the team's people and paperwork, as ``events`` gives the account's; none of it is among those.

        Raises: UnknownEventShape for a shape newer than the code; EventsArchived.
        """
        stream_id = team_stream_id(team_id)
        for version, topic, state in self._stored(team_id, stream_id, after, until):
            yield RecordedTeamEvent(stream_id, version, TEAM_SHAPES.decode(topic, state))

    def _stored(
        self, team_id: str, stream_id: UUID, after: int, until: int | None
    ) -> Iterator[tuple[int, str, bytes]]:
        shard = self._shards.shard_of(team_id)
        with (
            self._shards.connection_for(shard) as connection,
            connection.transaction(),
            connection.cursor("history", row_factory=psycopg.rows.tuple_row) as cursor,
        ):
            cursor.format = psycopg.pq.Format.BINARY
            cursor.execute(
                "SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
                " AND originator_version > %s AND originator_version <= %s ORDER BY originator_version",
                (shard, stream_id, after, 2**62 if until is None else until),
            )
            yield from without_gap(
                _portions(cursor),
                after,
                until,
                itemgetter(0),
                lambda since, missing: refuse_archived(connection, shard, stream_id, since, missing),
            )


def _portions(cursor: psycopg.ServerCursor[TupleRow]) -> Iterator[TupleRow]:
    while portion := cursor.fetchmany(FETCH_ROWS):
        yield from portion
