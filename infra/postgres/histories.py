"""One team's streams, read in version order and a portion at a time, so that a history of any length fits."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from operator import itemgetter
from typing import cast
from uuid import UUID

from psycopg import Cursor, capabilities
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from domain.account.decision import account_id
from domain.account.events import RecordedEvent
from domain.team.events import RecordedTeamEvent
from domain.team.state import team_stream_id
from infra.postgres.archived import refuse_archived, without_gap
from infra.postgres.mapper import ACCOUNT_SHAPES, TEAM_SHAPES
from infra.postgres.shards import ShardMap

PORTION_ROWS = 10_000
"""A statement gives so many rows: whoever works on them slowly does not meet the bound on a statement's time."""

CHUNK_ROWS = 200
"""So many rows are made into values together; 100 to 500 cost the same, and one by one a tenth more."""

_PORTION = (
    b"SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
    b" AND originator_version > %s AND originator_version <= %s ORDER BY originator_version LIMIT %s"
)


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
        with self._shards.connection_for(shard) as connection, connection.transaction():

            def refuse(since: int, missing: int | None) -> None:
                if connection.info.transaction_status != TransactionStatus.ACTIVE:
                    refuse_archived(connection, shard, stream_id, since, missing)
                    return
                # In the middle of a portion the connection is busy giving rows.
                with self._shards.connection_for(shard) as another:
                    refuse_archived(another, shard, stream_id, since, missing)

            # One snapshot for all portions: an archiver at work is met before or after, never in between.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor = connection.cursor(row_factory=tuple_row)
            last = 2**62 if until is None else until
            # Closed by hand: rows that are only dropped keep the connection's lock, and giving it back would wait for ever.
            with closing(_portions(cursor, shard, stream_id, after, last)) as rows:
                yield from without_gap(rows, after, until, itemgetter(0), refuse)


def _portions(
    cursor: Cursor[TupleRow], shard: int, stream_id: UUID, after: int, until: int
) -> Generator[TupleRow, None, None]:
    """The rows in portions; while one chunk of a portion is worked on, the server sends the next."""
    given = PORTION_ROWS
    while given == PORTION_ROWS:
        given = 0
        values = (shard, stream_id, after, until, PORTION_ROWS)
        # The driver's rows are a generator, which it promises only to be an iterator; a test closes one halfway.
        stream = cast(
            Generator[TupleRow, None, None],
            cursor.stream(_PORTION, values, binary=True, size=_chunk_rows()),
        )
        with closing(stream) as rows:
            for number, row in enumerate(rows, 1):
                yield row
                after, given = row[0], number


def _chunk_rows() -> int:
    # An older client library of PostgreSQL gives its rows one by one.
    return CHUNK_ROWS if capabilities.has_stream_chunked() else 1
