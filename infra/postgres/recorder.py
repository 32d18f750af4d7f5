"""The library's recorder, bound to one shard of the one table of events.

What is overridden, and why (each has a test of its own):
  insert_events         the stock one locks the whole table, so one writer works at a time, and sends rows as an array of a
                        composite type in text through a client pipeline that can hang for ever on large batches while it
                        holds that lock. Ours draws positions from the shard's counter row and copies rows in binary.
  select_*, max_*       the stock ones read a table of their own; ours read one shard of the common table, whoever wrote it:
                        the position is the notification id.
  subscribe             the stock reader sleeps until it is notified; a lost notification would stop it for good.
  create_table          tables come from migrations; making them at start from several processes fails now and then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from time import monotonic
from typing import Any, LiteralString
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    InterfaceError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Subscription,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresSubscription
from eventsourcing.utils import retry
from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row
from psycopg.sql import SQL, Composed, Identifier
from typing_extensions import override

from domain.account.applying import fold
from domain.account.claims import claim_of
from domain.account.decision import account_id
from domain.account.events import AccountEvent, AccountOpened
from domain.account.state import STATE_SCHEMA
from domain.chain import GENESIS
from domain.shards import shard_of
from infra.postgres.appending import AccountWrite, HeadMoved, NewEvent, append, channel_of
from infra.postgres.archived import refuse_archived, refuse_archived_position
from infra.postgres.heads import Head, load_heads
from infra.postgres.mapper import ACCOUNT_SHAPES, HEAD_TOPIC, is_of_account
from infra.postgres.sealing import is_sealed
from infra.postgres.shards import LedgerDatastore

POLL_SECONDS = 1.0
"""How long a subscription waits for a notification before it looks by itself."""

_read_again = retry((InterfaceError, OperationalError), max_attempts=10, wait=0.2)


class DatabaseFunctionsRefused(RuntimeError):
    """POSTGRES_ENABLE_DB_FUNCTIONS is set: it appends without any lock, and readers miss events."""


class ShardRecorder(PostgresApplicationRecorder):
    """One shard's events as an application sequence; notification ids are positions, gapless from 1."""

    def __init__(self, datastore: LedgerDatastore, shard: int, shards: int) -> None:
        # The insert function takes no lock: measured, a tailing reader missed one committed event in seven.
        if datastore.enable_db_functions:
            raise DatabaseFunctionsRefused(
                "POSTGRES_ENABLE_DB_FUNCTIONS is set: unset it, the ledger writes its events itself"
            )
        super().__init__(datastore, events_table_name="ledger_events")
        self.shard = shard
        self._shards = shards
        self.channel_name = channel_of(shard)
        # No table lock: it lets one writer work at a time, needs more rights than INSERT, and fights with auto-analyze.
        # The counter row of the shard orders commits instead, see `draw_positions`.
        self.lock_table_statements = []
        self.sql_create_statements = []

    @override
    def create_table(self) -> None:
        # Several processes that create at start collide in the system catalogue; `migrate` does it once, under a lock.
        raise ProgrammingError("tables of the ledger come from `coffer migrate`")

    # Not retried as the stock one is: after a lost answer to COMMIT a second try would report our own events as somebody
    # else's. Whoever appends reads back first.
    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The events are in the log with the heads and index entries they lead to; returns their positions.

        Raises: IntegrityError when a version is taken or skipped, or a claim is made already; DataError for an event of
        no account here.
        """
        streams: dict[UUID | str, list[StoredEvent]] = defaultdict(list)
        for each in stored_events:
            if not is_of_account(each.topic):
                # Their head is guarded by the account's lock, which is the session's, or by the issuer's own.
                raise DataError(
                    f"{each.topic} is not an account's: it is written with the head of its own stream"
                )
            streams[each.originator_id].append(each)
        if not streams:
            return []
        with self.datastore.get_connection() as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            try:
                first = append(cursor, self.shard, self._writes(cursor, list(streams.values())))
            except HeadMoved as error:
                raise IntegrityError(str(error)) from error
        in_log = {
            (row.originator_id, row.originator_version): position
            for position, row in enumerate((row for rows in streams.values() for row in rows), first)
        }
        return [in_log[each.originator_id, each.originator_version] for each in stored_events]

    def _writes(self, cursor: Cursor[TupleRow], streams: list[list[StoredEvent]]) -> list[AccountWrite]:
        """What to write for each stream, in their order; the heads are locked, in team order."""
        events = [[ACCOUNT_SHAPES.decode(row.topic, row.state) for row in rows] for rows in streams]
        teams = [
            self._team_of(cursor, rows[0].originator_id, made[0])
            for rows, made in zip(streams, events, strict=True)
        ]
        for team_id, rows in zip(teams, streams, strict=True):
            self._check_place(team_id, rows[0].originator_id)
        heads = load_heads(cursor, self.shard, teams, lock=True)
        return [
            _write(team_id, heads.get(team_id), rows, made)
            for team_id, rows, made in zip(teams, streams, events, strict=True)
        ]

    def _check_place(self, team_id: str, originator: UUID | str) -> None:
        """The stream is the team's and belongs here; elsewhere nobody would look for it. Raises: DataError."""
        if originator != account_id(team_id):
            raise DataError(
                f"{originator} is not the account of team {team_id!r}: that is {account_id(team_id)}"
            )
        if shard_of(team_id, self._shards) != self.shard:
            raise DataError(
                f"team {team_id!r} belongs to shard {shard_of(team_id, self._shards)}, not to shard {self.shard}"
            )

    def _team_of(self, cursor: Cursor[TupleRow], originator: UUID | str, first: AccountEvent) -> str:
        if isinstance(first, AccountOpened):
            return first.team_id
        cursor.execute(
            "SELECT team_id FROM account_head WHERE shard = %s AND account_id = %s", (self.shard, originator)
        )
        row = cursor.fetchone()
        if row is None:
            raise HeadMoved(f"account {originator} is not open on shard {self.shard}")
        return str(row[0])

    # The stock statements know neither the shard, which leads every key, nor that the position is the notification id.
    @override
    @_read_again
    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one account after version ``gt`` up to ``lte``."""
        query = _Query(
            SQL("originator_id, originator_version, topic, state"), self.events_table_name, self.shard
        )
        query.where("originator_id = %s", originator_id)
        query.where("originator_version > %s", gt)
        query.where("originator_version <= %s", lte)
        query.order("originator_version", desc=desc, limit=limit)
        rows = self._rows(query)
        # From the first event on, something may have left; a head is newer than all that did.
        if not gt and (not rows or rows[0][1] != 1):
            with self.datastore.get_connection() as connection:
                refuse_archived(connection, self.shard, UUID(str(originator_id)), 0, lte)
        return [StoredEvent(*row) for row in rows]

    @override
    @_read_again
    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The shard's events from position ``start`` to ``stop``, at most ``limit``."""
        columns = SQL("originator_id, originator_version, topic, state, position")
        query = _Query(columns, self.events_table_name, self.shard)
        query.where("position >= %s" if inclusive_of_start else "position > %s", start)
        query.where("position <= %s", stop)
        query.where("topic = ANY(%s)", list(topics) or None)
        query.order("position", desc=False, limit=limit)
        rows = self._rows(query)
        first = (start or 1) if inclusive_of_start else (start or 0) + 1
        if not rows or rows[0][4] != first:
            with self.datastore.get_connection() as connection:
                refuse_archived_position(connection.cursor(row_factory=tuple_row), self.shard, first, stop)
        return [Notification(*row) for row in rows]

    # The counter row says it without a scan, and it is committed together with the events it counts.
    @override
    @_read_again
    def max_notification_id(self) -> int | None:
        """The last position of the shard, None while it is empty."""
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute("SELECT nullif(position, 0) FROM shard_log WHERE shard = %s", (self.shard,))
            row = cursor.fetchone()
        assert row is not None, f"shard {self.shard} has no log"
        last: int | None = row[0]
        return last

    @override
    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """The shard's events after ``gt``, for ever; it also looks every second, should a notification be lost."""
        return _PollingSubscription(recorder=self, gt=gt, topics=topics)

    def _rows(self, query: _Query) -> list[TupleRow]:
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            return cursor.execute(query.statement, query.parameters, binary=True).fetchall()


def _write(
    team_id: str, head: Head | None, rows: Sequence[StoredEvent], events: Sequence[AccountEvent]
) -> AccountWrite:
    """What the rows make of the account. Raises: HeadMoved when they do not follow its head."""
    expected = head.account.version if head else 0
    versions = [row.originator_version for row in rows]
    if versions != list(range(expected + 1, expected + 1 + len(rows))):
        raise HeadMoved(f"team {team_id!r} is at version {expected}; versions {versions} do not follow")
    account, changes = fold(head.account if head else None, events)
    assert account is not None
    return AccountWrite(
        team_id=team_id,
        account_id=account_id(team_id),
        expected_version=expected,
        previous_hash=head.chain_hash if head else GENESIS,
        account=account,
        events=[
            NewEvent(row.topic, row.state, claim_of(event)) for row, event in zip(rows, events, strict=True)
        ],
        index_changes=changes,
    )


class _Query:
    """A SELECT on one shard, put together from conditions that have a value."""

    def __init__(self, columns: SQL, table: str, shard: int) -> None:
        self.statement: Composed = SQL("SELECT {} FROM {} WHERE shard = %s").format(
            columns, Identifier(table)
        )
        self.parameters: list[object] = [shard]

    def where(self, condition: LiteralString, value: object | None) -> None:
        """The rows also meet the condition, when there is a value."""
        if value is not None:
            self.statement += SQL(" AND " + condition)
            self.parameters.append(value)

    def order(self, column: str, *, desc: bool, limit: int | None) -> None:
        """The rows come in order of the column, at most ``limit``."""
        self.statement += SQL(" ORDER BY {} DESC" if desc else " ORDER BY {}").format(Identifier(column))
        if limit is not None:
            self.statement += SQL(" LIMIT %s")
            self.parameters.append(limit)


class _PollingSubscription(PostgresSubscription):
    """The library's subscription; once a second it looks without having been told."""

    @override
    def _listen(self) -> None:
        listen = SQL("LISTEN {}").format(Identifier(self._recorder.channel_name))
        try:
            with self._recorder.datastore.get_connection() as connection:
                connection.execute(listen)
                looked = monotonic()
                while not self._has_been_stopped and not self._thread_error:
                    for _ in connection.notifies(timeout=0.1, stop_after=1):
                        self._has_been_notified.set()
                    if monotonic() - looked >= POLL_SECONDS:
                        looked = monotonic()
                        self._has_been_notified.set()
        except BaseException as error:  # noqa: BLE001 - handed to the reading thread, which raises it
            if self._thread_error is None:
                self._thread_error = error
            self.stop()


class HeadRecorder(AggregateRecorder):
    """Heads in the place of a table of snapshots: one for each account, always of its newest version."""

    def __init__(self, datastore: LedgerDatastore, shard: int) -> None:
        self._datastore = datastore
        self._shard = shard

    @override
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        # A head is written in the transaction of its events, or it could be ahead of them.
        raise ProgrammingError("heads are written with the events, never by themselves")

    @override
    @_read_again
    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The head of the account, unless it is newer than asked for, of another schema, or its seal is not ours."""
        with self._datastore.get_connection() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute(
                "SELECT account_id, version, state, chain_hash FROM account_head"
                " WHERE shard = %s AND account_id = %s AND state_schema = %s"
                " AND version > %s AND (%s::bigint IS NULL OR version <= %s)",
                (self._shard, originator_id, STATE_SCHEMA, gt or 0, lte, lte),
                binary=True,
            )
            return [
                StoredEvent(found, version, HEAD_TOPIC, state)
                for found, version, state, chain_hash in cursor.fetchall()
                if is_sealed(state, found, version, chain_hash)
            ]
