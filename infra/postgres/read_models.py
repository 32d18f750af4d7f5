"""Read models in PostgreSQL: rows and position in one transaction per batch, so a projector resumes exactly where it stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString, NamedTuple, Protocol
from uuid import UUID

import msgspec
import psycopg
from psycopg import Cursor, sql
from psycopg.rows import TupleRow, tuple_row

from domain.account.events import AccountOpened, RecordedEvent
from infra.postgres.mapper import ACCOUNT_SHAPES, TEAM_SHAPES
from infra.postgres.shards import ShardMap
from projections.moves import NOTHING, Sums, sums_after
from projections.statement import (
    EQUAL_COLUMNS,
    EVERYTHING,
    STATEMENT_SHAPE,
    StatementFilter,
    StatementPage,
    StatementRow,
    page_limit,
    rows_of,
)

BATCH_EVENTS_MAX = 2_000
TEAMS_REMEMBERED_MAX = 200_000


class StoredEvent(NamedTuple):
    """A row of the log as a projection reads it."""

    position: int
    account_id: UUID
    version: int
    topic: str
    state: bytes


class CannotProject(Exception):
    """An event that a projection cannot take; rows of the events before it are in ``rows``."""

    def __init__(self, event: StoredEvent, rows: Sequence[tuple[object, ...]], cause: Exception) -> None:
        super().__init__(
            f"{event.topic} of account {event.account_id} version {event.version}: {type(cause).__name__}: {cause}"
        )
        self.position = event.position
        self.rows = rows


class Moved(Exception):
    """Another projector advanced the position meanwhile: nothing was written."""


class ReadModel(Protocol):
    """A projection with a table of its own: how events become its rows."""

    @property
    def name(self) -> str:
        """Its name in ``tracking``."""
        ...

    @property
    def table(self) -> str:
        """The table that readers read."""
        ...

    @property
    def shape(self) -> int:
        """Counts up when the rows of the same events would look different."""
        ...

    @property
    def columns(self) -> Sequence[tuple[str, str]]:
        """The columns of a row with their types, in order."""
        ...

    def rows(
        self, cursor: Cursor[TupleRow], shard: int, events: Sequence[StoredEvent], table: str
    ) -> Sequence[tuple[object, ...]]:
        """The rows that the events of accounts add to the table, which holds those of all events before them.

        Raises: CannotProject.
        """
        ...


class Teams:
    """The team of each account, remembered within a bound: events after the first do not carry it."""

    def __init__(self) -> None:
        self._teams: dict[UUID, str] = {}

    def of(self, cursor: Cursor[TupleRow], shard: int, account_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The teams of these accounts; one without a head is absent."""
        wanted = set(account_ids)
        unknown = [account_id for account_id in wanted if account_id not in self._teams]
        if unknown:
            if len(self._teams) + len(unknown) > TEAMS_REMEMBERED_MAX:
                self._teams.clear()
                unknown = list(wanted)
            cursor.execute(
                "SELECT account_id, team_id FROM account_head WHERE shard = %s AND account_id = ANY(%s)",
                (shard, unknown),
                binary=True,
            )
            self._teams.update(cursor.fetchall())
        return {account_id: self._teams[account_id] for account_id in wanted if account_id in self._teams}


class StatementModel:
    """The statement as a read model: a row per event that moved or set aside credits or waived usage."""

    name = "statement"
    table = "statement_entry"
    shape = STATEMENT_SHAPE
    columns: Sequence[tuple[str, str]] = tuple(
        zip(
            StatementRow._fields,
            (
                *(
                    "int4",
                    "text",
                    "int8",
                    "text",
                    "timestamptz",
                    "timestamptz",
                    "int8",
                    "int8",
                    "int8",
                    "uuid",
                ),
                *("text",) * 10,
                "int8",
            ),
            strict=True,
        )
    )

    def __init__(self) -> None:
        self._teams = Teams()

    def rows(
        self, cursor: Cursor[TupleRow], shard: int, events: Sequence[StoredEvent], table: str
    ) -> Sequence[tuple[object, ...]]:
        """As the protocol says; sums that an event leaves are those of the team's row before it, here or in the table."""
        teams = self._teams.of(cursor, shard, (event.account_id for event in events))
        played, failed = _decoded(events)
        sums = _sums_before(cursor, shard, table, _living(played), teams)
        rows: list[tuple[object, ...]] = []
        for event, recorded in played:
            try:
                team_id = teams[event.account_id]
                before = sums.get(event.account_id, NOTHING)
                rows += map(_stored, rows_of(recorded, shard, team_id, before))
                sums[event.account_id] = sums_after(recorded.event, before)
            except Exception as error:
                # Whatever it is, it is this event's: the projection halts here and says so, and the others go on.
                raise CannotProject(event, rows, error) from error
        if failed is not None:
            unreadable, cause = failed
            raise CannotProject(unreadable, rows, cause) from cause
        return rows


Played = list[tuple[StoredEvent, RecordedEvent]]


def _decoded(events: Sequence[StoredEvent]) -> tuple[Played, tuple[StoredEvent, Exception] | None]:
    """The events up to the first that cannot be read, and that one with its error."""
    played: Played = []
    for event in events:
        try:
            decoded = ACCOUNT_SHAPES.decode(event.topic, event.state)
        except Exception as error:  # noqa: BLE001 - not swallowed: the caller raises it once the events before are folded
            return played, (event, error)
        played.append((event, RecordedEvent(event.account_id, event.version, decoded)))
    return played, None


def _living(played: Played) -> set[UUID]:
    """The accounts that events came for before this batch: what they had set aside then is on their last row."""
    opened = {event.account_id for event, recorded in played if isinstance(recorded.event, AccountOpened)}
    return {event.account_id for event, _ in played} - opened


def _sums_before(
    cursor: Cursor[TupleRow], shard: int, table: str, accounts: set[UUID], teams: dict[UUID, str]
) -> dict[UUID, Sums]:
    """The sums of each account's last row in the table."""
    asked = {teams[account_id]: account_id for account_id in accounts if account_id in teams}
    if not asked:
        return {}
    cursor.execute(
        sql.SQL(
            "SELECT t.team_id, last.settled_after_micros, last.debt_after_micros, last.held_after_micros"
            " FROM unnest(%s::text[]) AS t (team_id) CROSS JOIN LATERAL"
            " (SELECT settled_after_micros, debt_after_micros, held_after_micros FROM {} AS s"
            " WHERE s.shard = %s AND s.team_id = t.team_id ORDER BY s.version DESC LIMIT 1) AS last"
        ).format(sql.Identifier(table)),
        (list(asked), shard),
        binary=True,
    )
    return {asked[team_id]: Sums(*sums) for team_id, *sums in cursor.fetchall()}


class Target(NamedTuple):
    """Where a projector writes: its row in ``tracking`` and the table. A rebuild has its own of both."""

    projection: str
    table: str


class Batch(msgspec.Struct, frozen=True):
    """What one transaction of a projector did; ``halted`` says why the projection stands still from now on."""

    shard: int
    position: int
    events: int
    rows: int
    halted: str | None = None


class Tracked(NamedTuple):
    """How far a projection has come on a shard, and why it stands still if it does."""

    position: int
    halted: str | None


class Projector:
    """Takes events of a shard into a read model, a batch per transaction; two of them on one shard never double."""

    def __init__(self, model: ReadModel, target: Target | None = None) -> None:
        self.model = model
        self.target = target or Target(model.name, model.table)
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(self.target.table),
            sql.SQL(", ").join(sql.Identifier(name) for name, _ in model.columns),
        )

    def advance(
        self,
        connection: psycopg.Connection[TupleRow],
        shard: int,
        *,
        until: int | None = None,
        limit: int = BATCH_EVENTS_MAX,
    ) -> Batch | None:
        """The next events of the shard, at most ``limit``, are in the read model; None when there are none or it is halted.

        An event that cannot be taken halts the projection on this shard at its position; those before it are taken.
        Raises: Moved when another projector was quicker.
        """
        try:
            return self._advance(connection, shard, until, limit)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if limit > 1:
                # Some row of the batch does not fit the table; fewer at a time, it will be the only one.
                return self.advance(connection, shard, until=until, limit=max(1, limit // 8))
            return self._halt(connection, shard, error)

    def _advance(
        self, connection: psycopg.Connection[TupleRow], shard: int, until: int | None, limit: int
    ) -> Batch | None:
        assert connection.autocommit, "each batch is a transaction of its own"
        # What is lost in a crash of the server is lost together, rows and position, and taken again.
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
            tracked = self.tracked(cursor, shard)
            if tracked.halted is not None:
                return None
            try:
                events = read_events(cursor, shard, tracked.position, until, limit)
            except GapInLog as gap:
                self._move(cursor, shard, tracked.position, tracked.position, str(gap))
                return Batch(shard, tracked.position, 0, 0, str(gap))
            return self._take(cursor, shard, tracked.position, events) if events else None

    def _halt(self, connection: psycopg.Connection[TupleRow], shard: int, error: Exception) -> Batch:
        """The projection stands still before the next event of the shard."""
        with connection.transaction(), connection.cursor() as cursor:
            position = self.tracked(cursor, shard).position
            halted = f"{type(error).__name__}: {error}"
            self._move(cursor, shard, position, position, halted)
        return Batch(shard, position, 0, 0, halted)

    def tracked(self, cursor: Cursor[TupleRow], shard: int) -> Tracked:
        """How far the target has come on the shard; 0 where it never began."""
        cursor.execute(
            "SELECT position, halted FROM tracking WHERE shard = %s AND projection = %s",
            (shard, self.target.projection),
        )
        row = cursor.fetchone()
        return Tracked(*row) if row else Tracked(0, None)

    def _take(
        self, cursor: Cursor[TupleRow], shard: int, position: int, events: Sequence[StoredEvent]
    ) -> Batch:
        # People and paperwork share the log, and no read model is about them: they are passed over, never waited at.
        of_accounts = [event for event in events if event.topic not in TEAM_SHAPES]
        try:
            rows = self.model.rows(cursor, shard, of_accounts, self.target.table)
            reached, halted = events[-1].position, None
        except CannotProject as error:
            rows = error.rows
            reached, halted = error.position - 1, str(error)
        self._move(cursor, shard, position, reached, halted)
        self._write(cursor, rows)
        return Batch(shard, reached, reached - position, len(rows), halted)

    def _move(
        self, cursor: Cursor[TupleRow], shard: int, position: int, reached: int, halted: str | None
    ) -> None:
        """The position goes from where it was read to where it is now, unless someone else moved it."""
        cursor.execute(
            "INSERT INTO tracking AS t (shard, projection, position, halted_position, halted) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (shard, projection) DO UPDATE"
            " SET position = EXCLUDED.position, halted_position = EXCLUDED.halted_position, halted = EXCLUDED.halted"
            " WHERE t.position = %s AND t.halted IS NULL",
            (
                shard,
                self.target.projection,
                reached,
                reached + 1 if halted else None,
                halted,
                position,
            ),
        )
        if cursor.rowcount != 1:
            raise Moved(f"{self.target.projection} on shard {shard} is no longer at {position}")

    def _write(self, cursor: Cursor[TupleRow], rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        with cursor.copy(self._copy) as copy:
            copy.set_types([kind for _, kind in self.model.columns])
            for row in rows:
                copy.write_row(row)

    def release(self, connection: psycopg.Connection[TupleRow]) -> int:
        """Halted shards are tried again from where they stand; returns how many there were."""
        with connection.transaction():
            released = connection.execute(
                "UPDATE tracking SET halted = NULL, halted_position = NULL WHERE projection = %s AND halted IS NOT NULL",
                (self.target.projection,),
            )
        return released.rowcount

    def behind(self, connection: psycopg.Connection[TupleRow], shards: Sequence[int]) -> list[int]:
        """The shards whose log is longer than what was taken, less those on which the projection is halted."""
        rows = connection.execute(
            "SELECT l.shard FROM shard_log l LEFT JOIN tracking t ON t.shard = l.shard AND t.projection = %s"
            " WHERE l.shard = ANY(%s) AND l.position > coalesce(t.position, 0) AND t.halted IS NULL ORDER BY l.shard",
            (self.target.projection, list(shards)),
        ).fetchall()
        return [shard for (shard,) in rows]


class GapInLog(Exception):
    """Positions of a shard are not consecutive: an event was taken out of the log by hand."""


def read_events(
    cursor: Cursor[TupleRow], shard: int, after: int, until: int | None, limit: int
) -> list[StoredEvent]:
    """At most ``limit`` events of the shard beyond a position, in order.

    Raises: GapInLog; positions are drawn without gaps, in the order of commits.
    """
    cursor.execute(
        "SELECT position, originator_id, originator_version, topic, state FROM ledger_events"
        " WHERE shard = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s",
        (shard, after, 2**62 if until is None else until, limit),
        binary=True,
    )
    events = [StoredEvent(*row) for row in cursor.fetchall()]
    for expected, event in enumerate(events, after + 1):
        if event.position != expected:
            raise GapInLog(f"shard {shard} has no position {expected}: run `coffer verify`")
    return events


class PostgresStatement:
    """The statement's view on PostgreSQL."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def page(
        self,
        team_id: str,
        *,
        asked: StatementFilter = EVERYTHING,
        after: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> StatementPage:
        """As the port says."""
        limit = page_limit(limit)
        shard = self._shards.shard_of(team_id)
        query, values = _page_query(shard, team_id, asked, after, newest_first)
        with (
            self._shards.connection_for(shard) as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            # The position is read first: rows that come between are beyond it, never missing below it.
            cursor.execute(
                "SELECT position FROM tracking WHERE shard = %s AND projection = %s",
                (shard, StatementModel.name),
            )
            position = cursor.fetchone()
            cursor.execute(query, [*values, limit + 1], binary=True)
            rows = [statement_row(row) for row in cursor.fetchall()]
        return StatementPage(rows[:limit], position[0] if position else 0, len(rows) > limit)


def _stored(row: StatementRow) -> tuple[object, ...]:
    """The row as its columns hold it."""
    return (*row[:9], UUID(hex=row.charge_id) if row.charge_id else None, *row[10:])


def statement_row(stored: TupleRow) -> StatementRow:
    """The row as the projection made it: the columns in their order, the charge as 32 hex digits."""
    charge_id = stored[9]
    return StatementRow._make((*stored[:9], charge_id.hex if charge_id else None, *stored[10:]))


_INTERVALS: tuple[tuple[str, LiteralString], ...] = (
    ("recorded_from", "recorded_at >= %s"),
    ("recorded_until", "recorded_at < %s"),
    ("occurred_from", "occurred_at >= %s"),
    ("occurred_until", "occurred_at < %s"),
)


def _page_query(
    shard: int, team_id: str, asked: StatementFilter, after: int | None, newest_first: bool
) -> tuple[sql.Composed, list[object]]:
    conditions: list[sql.Composable] = [sql.SQL("shard = %s"), sql.SQL("team_id = %s")]
    values: list[object] = [shard, team_id]
    if after is not None:
        conditions.append(sql.SQL("version < %s") if newest_first else sql.SQL("version > %s"))
        values.append(after)
    if asked.kinds is not None:
        conditions.append(sql.SQL("kind = ANY(%s)"))
        values.append(sorted(asked.kinds))
    for name in EQUAL_COLUMNS:
        wanted = getattr(asked, name)
        if wanted is not None:
            conditions.append(sql.SQL("{} = %s").format(sql.Identifier(name)))
            values.append(wanted)
    for name, condition in _INTERVALS:
        wanted = getattr(asked, name)
        if wanted is not None:
            conditions.append(sql.SQL(condition))
            values.append(wanted)
    query = sql.SQL("SELECT {} FROM statement_entry WHERE {} ORDER BY version {} LIMIT %s").format(
        sql.SQL(", ").join(map(sql.Identifier, StatementRow._fields)),
        sql.SQL(" AND ").join(conditions),
        sql.SQL("DESC" if newest_first else "ASC"),
    )
    return query, values
