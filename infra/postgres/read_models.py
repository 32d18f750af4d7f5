"""Read models in PostgreSQL: rows and position in one transaction per batch, so a projector resumes exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, LiteralString, NamedTuple, Protocol
from uuid import UUID

import msgspec
import psycopg
from psycopg import Cursor, sql
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from typing_extensions import override

from domain.account.events import AccountOpened, CreditsCharged, RecordedEvent
from infra.postgres import arrays
from infra.postgres.archived import archived_position
from infra.postgres.mapper import ACCOUNT_SHAPES, is_of_account, old_topics_of, topic_of
from infra.postgres.shards import ShardMap
from projections.moves import NOTHING, Sums, sums_after
from projections.statement import (
    EQUAL_COLUMNS,
    EVERYTHING,
    STATEMENT_SHAPE,
    ChargeFields,
    StatementFilter,
    StatementPage,
    StatementRow,
    charge_row,
    page_limit,
    rows_of,
)

BATCH_EVENTS_MAX = 4_000
"""So many events of a shard are taken at a time."""

TAKE_EVENTS_MAX = 8_000
"""So many events of all shards are taken in one transaction: about 10 MiB in memory."""

TEAMS_REMEMBERED_MAX = 200_000
SUMS_REMEMBERED_MAX = 50_000
"""Of each shard; beyond that they are read from the table again."""


class StoredEvent(NamedTuple):
    """A row of the log as a projection reads it; ``stream`` is the id, as 16 bytes, of the account or of the team's paperwork."""

    position: int
    stream: bytes
    version: int
    topic: str
    state: bytes


class CannotProject(Exception):
    """An event that a projection cannot take; rows of the events before it are in ``rows``."""

    def __init__(self, event: StoredEvent, rows: Sequence[tuple[object, ...]], cause: Exception) -> None:
        super().__init__(
            f"{event.topic} of account {UUID(bytes=event.stream)} version {event.version}:"
            f" {type(cause).__name__}: {cause}"
        )
        self.position = event.position
        self.rows = rows


class Moved(Exception):
    """The position was advanced by somebody else meanwhile: nothing was written."""


class Table(NamedTuple):
    """A table that a projection writes, and its identity: one that takes its name later has another."""

    name: str
    identity: int


class Taking(NamedTuple):
    """Events of accounts to be taken into a table that holds the rows of all events up to position ``after`` of the shard.

    They are all those between there and ``until`` (included).
    """

    shard: int
    after: int
    until: int
    events: Sequence[StoredEvent]
    table: Table


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
        """The columns of a row with their types, in order; an uuid is given by its hex digits."""
        ...

    @property
    def key(self) -> Sequence[str]:
        """The columns that name a row, where the others are sums that rows of one key add to; none where every row is new."""
        ...

    def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
        """The rows that the events add to the table. It may be asked again for the same events, when nothing was written.

        Raises: CannotProject.
        """
        ...


class Teams:
    """The team of each stream of an account, remembered within a bound: events after the first do not carry it."""

    def __init__(self) -> None:
        self._teams: dict[bytes, str] = {}

    def of(self, cursor: Cursor[TupleRow], shard: int, streams: Iterable[bytes]) -> dict[bytes, str]:
        """The teams of at least these accounts; one without a head is absent."""
        wanted = set(streams)
        # By hand: a difference from the keys of a dictionary walks through all of them.
        unknown = {stream for stream in wanted if stream not in self._teams}
        if unknown:
            if len(self._teams) + len(unknown) > TEAMS_REMEMBERED_MAX:
                self._teams.clear()
                unknown = wanted
            cursor.execute(
                "SELECT uuid_send(account_id), team_id FROM account_head WHERE shard = %s AND account_id = ANY(%s)",
                (shard, [UUID(bytes=stream) for stream in unknown]),
                binary=True,
            )
            self._teams.update(cursor.fetchall())
        return self._teams


class _Standing:
    """The sums of accounts after a position of a shard's log: those that were asked for so far."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.sums: dict[bytes, Sums] = {}


_CHARGED = frozenset((topic_of(CreditsCharged), *old_topics_of(CreditsCharged)))
_OPENED = topic_of(AccountOpened)
_read_charge = msgspec.json.Decoder(ChargeFields).decode


class StatementModel:
    """The statement as a read model: a row per event that moved or set aside credits or waived usage."""

    name = "statement"
    table = "statement_entry"
    shape = STATEMENT_SHAPE
    key: Sequence[str] = ()
    columns: Sequence[tuple[str, str]] = tuple(
        zip(
            StatementRow._fields,
            (
                *("int4", "text", "int8", "text", "timestamptz", "timestamptz", "int8", "int8", "int8"),
                "uuid",
                *("text",) * 10,
                "int8",
            ),
            strict=True,
        )
    )

    def __init__(self) -> None:
        self._teams = Teams()
        self._standing: dict[tuple[int, int], _Standing] = {}

    def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
        """As the protocol says; sums that an event leaves are those of the team's row before it."""
        teams = self._teams.of(cursor, taking.shard, (event.stream for event in taking.events))
        standing = self._standing_at(cursor, taking, teams)
        rows: list[tuple[object, ...]] = []
        for event in taking.events:
            try:
                row = _row(event, taking.shard, teams[event.stream], standing.sums)
            except Exception as error:
                # Whatever it is, it is this event's: the projection halts here and says so, and the others go on.
                standing.position = event.position - 1
                raise CannotProject(event, rows, error) from error
            if row is not None:
                rows.append(row)
        return rows

    def _standing_at(self, cursor: Cursor[TupleRow], taking: Taking, teams: dict[bytes, str]) -> _Standing:
        """The sums after ``taking.after`` of every account that has events, to be carried on to the last of them.

        Sums at a position are a matter of the log alone. So what is remembered is right whenever its position is the one to
        go on from, even when the transaction that it was made in was rolled back and somebody else wrote the same.
        """
        place = taking.shard, taking.table.identity
        standing = self._standing.get(place)
        if standing is None or standing.position != taking.after or len(standing.sums) > SUMS_REMEMBERED_MAX:
            # Of a table that was replaced nothing is remembered either.
            self._standing = {each: kept for each, kept in self._standing.items() if each[0] != taking.shard}
            standing = self._standing[place] = _Standing(taking.after)
        known = standing.sums
        unknown: dict[bytes, int] = {}
        for event in taking.events:
            if event.stream not in known and event.topic != _OPENED:
                unknown.setdefault(event.stream, event.version)
        known.update(_sums_before(cursor, taking, unknown, teams))
        standing.position = taking.until
        return standing


def _row(event: StoredEvent, shard: int, team_id: str, sums: dict[bytes, Sums]) -> StatementRow | None:
    """The row that the event adds, if it adds one; ``sums`` are those after it."""
    stream = event.stream
    before = sums.get(stream, NOTHING)
    if event.topic in _CHARGED:
        charge = _read_charge(event.state)
        row = charge_row(charge, event.version, shard, team_id, before)
        sums[stream] = Sums(charge.settled_after_micros, charge.debt_after_micros, row.held_after_micros)
        return row
    recorded = RecordedEvent(None, event.version, ACCOUNT_SHAPES.decode(event.topic, event.state))
    sums[stream] = sums_after(recorded.event, before)
    return next(iter(rows_of(recorded, shard, team_id, before)), None)


def _sums_before(
    cursor: Cursor[TupleRow], taking: Taking, versions: Mapping[bytes, int], teams: Mapping[bytes, str]
) -> dict[bytes, Sums]:
    """The sums of each account's last row in the table before a version."""
    asked = {teams[stream]: stream for stream in versions if stream in teams}
    if not asked:
        return {}
    cursor.execute(
        sql.SQL(
            "SELECT t.team_id, last.settled_after_micros, last.debt_after_micros, last.held_after_micros"
            " FROM unnest(%s::text[], %s::bigint[]) AS t (team_id, version) CROSS JOIN LATERAL"
            " (SELECT settled_after_micros, debt_after_micros, held_after_micros FROM {} AS s WHERE s.shard = %s"
            " AND s.team_id = t.team_id AND s.version < t.version ORDER BY s.version DESC LIMIT 1) AS last"
        ).format(sql.Identifier(taking.table.name)),
        (list(asked), [versions[stream] for stream in asked.values()], taking.shard),
        binary=True,
    )
    return {asked[team_id]: Sums(*sums) for team_id, *sums in cursor.fetchall()}


class Target(NamedTuple):
    """Where a projector writes: its row in ``tracking`` and the table. A rebuild has its own of both."""

    projection: str
    table: str


class Batch(msgspec.Struct, frozen=True):
    """What one transaction of a projector did on a shard; ``halted`` says why the projection stands still from now on."""

    shard: int
    position: int
    events: int
    rows: int
    halted: str | None = None


class _Part(NamedTuple):
    """A shard's part of a transaction: from which position to which, with the rows that it adds."""

    shard: int
    position: int
    reached: int
    rows: Sequence[tuple[object, ...]] = ()
    halted: str | None = None

    def told(self) -> Batch:
        return Batch(self.shard, self.reached, self.reached - self.position, len(self.rows), self.halted)


class _HexDumper(Dumper):
    """A uuid written from its hex digits: rows have them so, and to make an UUID of each costs more than the rest of the row."""

    format = Format.BINARY
    oid = psycopg.adapters.types["uuid"].oid

    @override
    def dump(self, obj: str) -> bytes:
        """The 16 bytes."""
        return bytes.fromhex(obj)


class _Array(bytes):
    """A column of rows as PostgreSQL's array of a type."""

    oid: ClassVar[int]


class _Int4s(_Array):
    oid = arrays.INT4S


class _Int8s(_Array):
    oid = arrays.INT8S


class _Texts(_Array):
    oid = arrays.TEXTS


class _Dates(_Array):
    oid = arrays.DATES


class _ArrayDumper(Dumper):
    """Arrays that are encoded already: psycopg's own way costs more for a batch of sums than all the rest of them."""

    format = Format.BINARY

    def __init__(self, cls: type[_Array], context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self.oid = cls.oid

    @override
    def dump(self, obj: _Array) -> bytes:
        """As it is."""
        return obj


_ARRAYS: Mapping[str, tuple[type[_Array], Callable[[Collection[Any]], bytes]]] = {
    "int4": (_Int4s, arrays.int4s),
    "int8": (_Int8s, arrays.int8s),
    "text": (_Texts, arrays.texts),
    "date": (_Dates, arrays.dates),
}
"""How a column of the type that a model says becomes an array; where rows are sums, no other types are needed."""


class LogReader:
    """Reads the log for several read models: what one of them has read, the others at the same position need not read again."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, int], list[StoredEvent]] = {}

    def forget(self) -> None:
        """Nothing is kept. Each model takes once between two calls, so no more is kept than they take."""
        self._read.clear()

    def events(self, cursor: Cursor[TupleRow], shard: int, after: int, limit: int) -> Sequence[StoredEvent]:
        """As ``read_events``; where others read before, perhaps fewer than there are by now, never none."""
        place = shard, after
        read = self._read.get(place)
        if read is None:
            read = self._read[place] = read_events(cursor, shard, after, None, limit)
        return read[:limit]


# Of shards that another projector has in hand. It will have taken what there is: waiting for all of them would be for nothing.
_LEAVE_OUT = sql.SQL("SKIP LOCKED")
_WAIT = sql.SQL("")


class Projector:
    """Takes events into a read model, some of several shards per transaction; two of them on one shard never double.

    Not for use by several threads.
    """

    def __init__(
        self, model: ReadModel, target: Target | None = None, reader: LogReader | None = None
    ) -> None:
        self.model = model
        self._reader = reader
        self.target = target or Target(model.name, model.table)
        self._copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            sql.Identifier(self.target.table),
            sql.SQL(", ").join(sql.Identifier(name) for name, _ in model.columns),
        )

    def take(
        self,
        connection: psycopg.Connection[TupleRow],
        shards: Sequence[int],
        *,
        until: int | None = None,
        limit: int = BATCH_EVENTS_MAX,
    ) -> list[Batch]:
        """The next events of the shards, at most ``limit`` of each, are in the read model, by one transaction.

        Shards with nothing new, halted, or in another projector's hands are left out. An event that cannot be taken halts the
        projection on its shard at its position; those before it, and the other shards, are taken.
        """
        return self._fitted(connection, shards, until, limit, _LEAVE_OUT)

    def advance(
        self,
        connection: psycopg.Connection[TupleRow],
        shard: int,
        *,
        until: int | None = None,
        limit: int = BATCH_EVENTS_MAX,
    ) -> Batch | None:
        """As ``take``, of one shard, waiting for whoever has it in hand; None when there was nothing left to take.

        Raises: psycopg.errors.LockNotAvailable when that took too long.
        """
        return next(iter(self._fitted(connection, [shard], until, limit, _WAIT)), None)

    def _fitted(
        self,
        connection: psycopg.Connection[TupleRow],
        shards: Sequence[int],
        until: int | None,
        limit: int,
        others: sql.SQL,
    ) -> list[Batch]:
        """As much is taken as fits the table."""
        try:
            return self._take(connection, shards, until, limit, others)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            # Some row does not. Fewer at a time, until it is the only one.
            if len(shards) > 1:
                each = (self._fitted(connection, [shard], until, limit, others) for shard in shards)
                return [batch for batches in each for batch in batches]
            if limit > 1:
                return self._fitted(connection, shards, until, max(1, limit // 8), others)
            return self._halt(connection, shards, error)

    def _take(
        self,
        connection: psycopg.Connection[TupleRow],
        shards: Sequence[int],
        until: int | None,
        limit: int,
        others: sql.SQL,
    ) -> list[Batch]:
        assert connection.autocommit, "each batch is a transaction of its own"
        # Beforehand: a row that is new in a transaction is one that others would have to wait for.
        connection.execute(
            "INSERT INTO tracking (shard, projection, position) SELECT shard, %s, 0 FROM shard_log"
            " WHERE shard = ANY(%s) AND lives_here AND position > 0 ORDER BY shard ON CONFLICT DO NOTHING",
            (self.target.projection, list(shards)),
        )
        # What is lost in a crash of the server is lost together, rows and position, and taken again.
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")
            parts: list[_Part] = []
            if claimed := self._claim(cursor, shards, others):
                table = self._table(cursor)
                # The same share for each: a shard that is far behind shall not keep the others waiting.
                share = min(limit, max(1, TAKE_EVENTS_MAX // len(claimed)))
                found = (self._part(cursor, table, *each, until, share) for each in claimed)
                parts = [part for part in found if part is not None]
            if parts:
                self._move(cursor, parts)
                self._write(cursor, parts)
            return [part.told() for part in parts]

    def _claim(
        self, cursor: Cursor[TupleRow], shards: Sequence[int], others: sql.SQL
    ) -> list[tuple[int, int]]:
        """Shards that have something to take, and from where; nobody else takes them until the end of the transaction."""
        cursor.execute(
            sql.SQL(
                "SELECT t.shard, t.position FROM tracking t JOIN shard_log l ON l.shard = t.shard"
                " WHERE t.projection = %s AND t.shard = ANY(%s) AND t.halted IS NULL"
                " AND l.lives_here AND l.position > t.position ORDER BY t.shard FOR UPDATE OF t {}"
            ).format(others),
            (self.target.projection, list(shards)),
        )
        return cursor.fetchall()

    def _table(self, cursor: Cursor[TupleRow]) -> Table:
        """The target's table as it is now: whoever replaces it waits until our positions are free."""
        cursor.execute("SELECT %s::regclass::oid", (self.target.table,))
        row = cursor.fetchone()
        assert row is not None, "an unknown table is an error"
        return Table(self.target.table, row[0])

    def _part(
        self, cursor: Cursor[TupleRow], table: Table, shard: int, position: int, until: int | None, limit: int
    ) -> _Part | None:
        try:
            if self._reader is None or until is not None:
                events: Sequence[StoredEvent] = read_events(cursor, shard, position, until, limit)
            else:
                events = self._reader.events(cursor, shard, position, limit)
        except GapInLog as gap:
            return _Part(shard, position, position, halted=str(gap))
        if not events:
            return None
        # People, paperwork, works and issuers share the log, and no read model is about them: passed over, never waited at.
        of_accounts = [event for event in events if is_of_account(event.topic)]
        try:
            rows = self.model.rows(cursor, Taking(shard, position, events[-1].position, of_accounts, table))
        except CannotProject as error:
            return _Part(shard, position, error.position - 1, error.rows, str(error))
        return _Part(shard, position, events[-1].position, rows)

    def _halt(
        self, connection: psycopg.Connection[TupleRow], shards: Sequence[int], error: Exception
    ) -> list[Batch]:
        """The projection stands still before the next event of the shard."""
        halted = f"{type(error).__name__}: {error}"
        with connection.transaction(), connection.cursor() as cursor:
            parts = [
                _Part(shard, position, position, halted=halted)
                for shard, position in self._claim(cursor, shards, _WAIT)
            ]
            if parts:
                self._move(cursor, parts)
        return [part.told() for part in parts]

    def _move(self, cursor: Cursor[TupleRow], parts: Sequence[_Part]) -> None:
        """The positions go from where they were read to where they are now. Raises: Moved."""
        cursor.execute(
            "UPDATE tracking AS t SET position = n.reached, halted = n.halted,"
            " halted_position = CASE WHEN n.halted IS NOT NULL THEN n.reached + 1 END"
            " FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::text[]) AS n (shard, position, reached, halted)"
            " WHERE t.projection = %s AND t.shard = n.shard AND t.position = n.position AND t.halted IS NULL",
            (
                [part.shard for part in parts],
                [part.position for part in parts],
                [part.reached for part in parts],
                [part.halted for part in parts],
                self.target.projection,
            ),
        )
        if cursor.rowcount != len(parts):
            raise Moved(
                f"{self.target.projection} is no longer where it was read: {[part.told() for part in parts]}"
            )

    def _write(self, cursor: Cursor[TupleRow], parts: Sequence[_Part]) -> None:
        if not any(part.rows for part in parts):
            return
        if self.model.key:
            self._add(cursor, [row for part in parts for row in part.rows])
            return
        cursor.adapters.register_dumper(None, _HexDumper)
        with cursor.copy(self._copy) as copy:
            copy.set_types([kind for _, kind in self.model.columns])
            for part in parts:
                for row in part.rows:
                    copy.write_row(row)

    def _add(self, cursor: Cursor[TupleRow], rows: Sequence[tuple[object, ...]]) -> None:
        """The rows are in the table: new ones, and sums that have grown. COPY only ever brings new ones."""
        names = [sql.Identifier(name) for name, _ in self.model.columns]
        sums = [sql.Identifier(name) for name, _ in self.model.columns if name not in self.model.key]
        key = sql.SQL(", ").join(map(sql.Identifier, self.model.key))
        query = sql.SQL(
            "INSERT INTO {table} AS t ({names}) SELECT * FROM unnest({arrays}) AS added ({names}) ORDER BY {key}"
            " ON CONFLICT ({key}) DO UPDATE SET {sums}"
        ).format(
            table=sql.Identifier(self.target.table),
            names=sql.SQL(", ").join(names),
            arrays=sql.SQL(", ").join(
                sql.SQL("%s::{}[]").format(sql.SQL(kind)) for _, kind in self.model.columns
            ),
            key=key,
            sums=sql.SQL(", ").join(sql.SQL("{0} = t.{0} + excluded.{0}").format(each) for each in sums),
        )
        cursor.adapters.register_dumper(_Array, _ArrayDumper)
        columns = zip(self.model.columns, zip(*rows, strict=True), strict=True)
        cursor.execute(query, [_array(kind, values) for (_, kind), values in columns])

    def release(self, connection: psycopg.Connection[TupleRow]) -> int:
        """Halted shards are tried again from where they stand; returns how many there were."""
        with connection.transaction():
            released = connection.execute(
                "UPDATE tracking SET halted = NULL, halted_position = NULL WHERE projection = %s AND halted IS NOT NULL",
                (self.target.projection,),
            )
        return released.rowcount

    def behind(self, connection: psycopg.Connection[TupleRow], shards: Sequence[int]) -> list[int]:
        """The shards living here whose log is longer than what was taken, less those on which the projection is halted."""
        rows = connection.execute(
            "SELECT l.shard FROM shard_log l LEFT JOIN tracking t ON t.shard = l.shard AND t.projection = %s"
            " WHERE l.shard = ANY(%s) AND l.lives_here AND l.position > coalesce(t.position, 0)"
            " AND t.halted IS NULL ORDER BY l.shard",
            (self.target.projection, list(shards)),
        ).fetchall()
        return [shard for (shard,) in rows]


def _array(kind: str, values: Collection[Any]) -> _Array:
    array, encode = _ARRAYS[kind]
    return array(encode(values))


class GapInLog(Exception):
    """Positions of a shard are not consecutive: an event was taken out of the log by hand."""


def read_events(
    cursor: Cursor[TupleRow], shard: int, after: int, until: int | None, limit: int
) -> list[StoredEvent]:
    """At most ``limit`` events of the shard beyond a position, in order.

    Raises: GapInLog; positions are drawn without gaps, in the order of commits. One that an archive holds names its manifest.
    """
    # Bytes for the stream: an UUID object for each event costs as much as all the rest of reading it.
    cursor.execute(
        "SELECT position, uuid_send(originator_id), originator_version, topic, state FROM ledger_events"
        " WHERE shard = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s",
        (shard, after, 2**62 if until is None else until, limit),
        binary=True,
    )
    events = [StoredEvent._make(row) for row in cursor.fetchall()]
    # No two have the same position, and they ascend: so only the last one need be looked at.
    if events and events[-1].position != after + len(events):
        expected = next(n for n, event in enumerate(events, after + 1) if event.position != n)
        why = archived_position(cursor, shard, expected)
        raise GapInLog(why or f"shard {shard} has no position {expected}: run `coffer verify`")
    if not events and (why := archived_position(cursor, shard, after + 1)):
        raise GapInLog(why)
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
