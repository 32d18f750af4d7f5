"""The batch path: everything a batch of records causes, in one transaction, on a connection of its own."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cache
from time import monotonic, sleep
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg
from prometheus_client import Counter
from psycopg import Cursor, errors
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier
from typing_extensions import override

from consumers.batches import (
    Claim,
    DeadLetter,
    Fenced,
    Hole,
    MovedHeads,
    OutcomeRow,
    PartitionAdvance,
    PartitionKey,
    UsageBatch,
)
from domain.account.events import Charge
from domain.account.index import IndexKind, UsageOnFile
from domain.account.state import TeamAccount
from domain.errors import Busy, UnknownEventShape
from domain.ledger import OutcomeUnknown
from infra.failpoints import hit
from infra.postgres.appending import (
    AccountWrite,
    EncodedWrite,
    HeadMoved,
    copy_events,
    copying_contexts,
    draw_positions,
    encode,
    move_heads,
    new_events,
    stay_home,
)
from infra.postgres.connections import FIRST, NOT_REACHED
from infra.postgres.heads import Head, RecordClaim, StoredIndex, load_claims, load_heads
from infra.postgres.index_rows import change_index
from infra.postgres.ledger_store import Clock, database_clock
from infra.postgres.shards import ShardMap

ACCOUNTS_KEPT_MAX = 10_000
"""How many accounts a worker keeps between batches; the least recently used one goes first."""

SETTLE_SECONDS_MAX = 60.0
"""How long a worker tries to learn whether a COMMIT without an answer happened."""

COMMIT_OUTCOME_RESOLVED = Counter(
    "coffer_commit_outcome_resolved",
    "Commits whose answer was lost, by what reading the offsets back showed",
    ["outcome"],
)

# Heads are looked up one by one in the order given, so they are locked in that order; a hash join would take its own.
# Every statement here has its index, and a plan made while the ledger was empty must not scan it when it has grown.
_WORKER_OPTIONS = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"

T = TypeVar("T")


class AccountCache:
    """The accounts a worker used last, bounded by their number. Compare-and-set at the write says if one was stale."""

    def __init__(self, accounts_max: int) -> None:
        self._accounts_max = accounts_max
        self._heads: OrderedDict[str, Head] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heads)

    def take(self, team_id: str) -> Head | None:
        """The account, no longer in here: while it is decided on, what it holds is not what is stored."""
        return self._heads.pop(team_id, None)

    def put(self, team_id: str, head: Head) -> None:
        """The account as it was committed; the least recently used one gives way."""
        self._heads[team_id] = head
        self._heads.move_to_end(team_id)
        if len(self._heads) > self._accounts_max:
            self._heads.popitem(last=False)

    def clear(self) -> None:
        """Nothing is kept."""
        self._heads.clear()


class PostgresBatchStore:
    """Where batches go: one connection, one transaction each. Not for use by several threads at once.

    Told no other clock, the database's decides. Batches are of teams and partitions whose shards live in that one ``database``;
    `batch_stores.py` has one of these for each.
    """

    def __init__(
        self,
        shards: ShardMap,
        *,
        accounts_kept_max: int = ACCOUNTS_KEPT_MAX,
        clock: Clock | None = None,
        database: str = FIRST,
    ) -> None:
        self._shards = shards
        self._database = database
        self._clock = clock or database_clock
        self._cache = AccountCache(accounts_kept_max)
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._server_session: TupleRow | None = None
        self._lock_heads = False

    @contextmanager
    def transaction(self) -> Iterator[PostgresBatchTransaction]:
        """One transaction, committed when the block ends well and something was written.

        After MovedHeads the next one loads heads with their locks, so that it cannot move again.
        Raises: MovedHeads, Fenced; Busy when nothing was written and a retry is safe; OutcomeUnknown.
        """
        transaction: PostgresBatchTransaction | None = None
        try:
            connection = self._connected()
            transaction = PostgresBatchTransaction(
                connection.cursor(), self._shards, self._cache, self._clock, lock_heads=self._lock_heads
            )
            hit("batch.after_begin")
            yield transaction
            hit("batch.before_commit")
        except MovedHeads:
            self._moved()
            raise
        except (errors.DeadlockDetected, errors.SerializationFailure) as error:
            self._moved()
            raise MovedHeads(str(error)) from error
        except errors.UniqueViolation as error:
            self._moved()
            if not (error.diag.table_name or "").startswith(("ledger_events", "usage_context")):
                raise
            # A version or a claim was taken after we looked: decided again, the batch will see it.
            raise MovedHeads(str(error)) from error
        except NOT_REACHED as error:
            self._roll_back()
            raise Busy(f"the batch could not be written, nothing of it was: {error}") from error
        except BaseException:
            self._roll_back()
            raise
        self._commit(connection, transaction)
        hit("batch.after_commit")

    def transaction_for(self, partition: PartitionKey) -> AbstractContextManager[PostgresBatchTransaction]:
        """As ``transaction``: there is no other database that the partition's rows could be in."""
        return self.transaction()

    def next_offset(self, partition: PartitionKey) -> int | None:
        """The next offset to read; None for a partition never registered."""
        row = self._once(
            "SELECT next_offset FROM consumed"
            " WHERE shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s",
            partition,
            self._place(partition),
        )
        return None if row is None else int(row[0])

    def register(self, partition: PartitionKey, start: int) -> None:
        """The partition is known and read from ``start``; one that is known already stays as it is."""
        self._once(
            "INSERT INTO consumed (shard, cluster_id, topic_id, part, topic, next_offset)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING next_offset",
            partition,
            (*self._place(partition), partition.topic, start),
        )

    def halt(self, partition: PartitionKey, why: str) -> None:
        """The partition is stopped until an operator releases it; ``why`` is the message."""
        self._set_halted(partition, why)

    def release(self, partition: PartitionKey) -> None:
        """The partition may be read again."""
        self._set_halted(partition, None)

    def halted(self, partition: PartitionKey) -> str | None:
        """Why the partition is stopped, None when it is not."""
        row = self._once(
            "SELECT halted FROM consumed WHERE shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s",
            partition,
            self._place(partition),
        )
        return None if row is None or row[0] is None else str(row[0])

    def close(self) -> None:
        """The connection is closed; what was not committed is not written."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _set_halted(self, partition: PartitionKey, why: str | None) -> None:
        self._once(
            "UPDATE consumed SET halted = %s"
            " WHERE shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s RETURNING halted",
            partition,
            (why, *self._place(partition)),
        )

    def _place(self, partition: PartitionKey) -> tuple[int, str, str, int]:
        return _place(partition, self._shards.count)

    def _once(self, statement: str, partition: PartitionKey, parameters: Sequence[object]) -> TupleRow | None:
        """The first row of one statement in a transaction of its own, where the partition's rows live. Raises: Busy."""
        try:
            connection = self._connected()
            with connection.transaction():
                stay_home(connection.cursor(), [self._place(partition)[0]])
                return connection.execute(statement.encode(), parameters).fetchone()
        except NOT_REACHED as error:
            self._roll_back()
            raise Busy(f"the database could not be asked: {error}") from error

    def _connected(self) -> psycopg.Connection[TupleRow]:
        """The connection; a new one first ends what the server may still hold of the one before.

        Where the network broke, the server waits for us until its own bound, and our locks with it.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = self._shards.own_connection_to(self._database, _WORKER_OPTIONS)
        try:
            if self._server_session is not None:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE (pid, backend_start) = (%s, %s)",
                    self._server_session,
                )
            self._server_session = connection.execute(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            ).fetchone()
            connection.commit()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _moved(self) -> None:
        self._roll_back()
        self._lock_heads = True

    def _roll_back(self) -> None:
        """Nothing of the transaction stays; the accounts it had taken are not in the cache any more."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.rollback()
        except NOT_REACHED:
            # Its end rolls it back as well.
            self.close()

    def _commit(
        self, connection: psycopg.Connection[TupleRow], transaction: PostgresBatchTransaction
    ) -> None:
        try:
            connection.commit()
        except NOT_REACHED as error:
            self.close()
            self._settle(transaction, error)
        else:
            transaction.keep_accounts()
        self._lock_heads = False

    def _settle(self, transaction: PostgresBatchTransaction, lost: Exception) -> None:
        """It is known whether the COMMIT that was not answered happened: the stored offsets say it.

        Raises: Busy when it did not happen, Fenced when another worker has the partition, OutcomeUnknown.
        """
        if not transaction.written:
            raise Busy("the connection was lost; nothing was to be written") from lost
        advances = transaction.advances
        if not advances:
            raise OutcomeUnknown(
                "the answer to COMMIT was lost and the batch moved no offset to read back"
            ) from lost
        stored = self._read_back(advances[0], lost)
        if stored == advances[0].next_offset:
            COMMIT_OUTCOME_RESOLVED.labels("committed").inc()
            return
        COMMIT_OUTCOME_RESOLVED.labels("not_committed").inc()
        if stored == advances[0].expected_offset:
            raise Busy("the answer to COMMIT was lost and nothing had been written") from lost
        raise Fenced(
            f"partition {advances[0].partition.topic}/{advances[0].partition.partition} stands at {stored}, ours was"
            f" {advances[0].expected_offset} to {advances[0].next_offset}"
        ) from lost

    def _read_back(self, advance: PartitionAdvance, lost: Exception) -> int:
        """The stored next offset, read under its lock: so a COMMIT still under way on the server is waited for."""
        deadline = monotonic() + SETTLE_SECONDS_MAX
        while True:
            try:
                connection = self._connected()
                with connection.transaction():
                    row = connection.execute(
                        "SELECT next_offset FROM consumed WHERE shard = %s AND cluster_id = %s AND topic_id = %s"
                        " AND part = %s FOR UPDATE",
                        self._place(advance.partition),
                    ).fetchone()
            except NOT_REACHED as error:
                self._roll_back()
                if monotonic() > deadline:
                    raise OutcomeUnknown(
                        f"the answer to COMMIT was lost and cannot be read back: {error}"
                    ) from lost
                sleep(0.2)
            else:
                assert row is not None, "a registered partition is never removed"
                return int(row[0])


class PostgresBatchTransaction:
    """One transaction of the store while a batch is decided in it."""

    def __init__(
        self,
        cursor: Cursor[TupleRow],
        shards: ShardMap,
        cache: AccountCache,
        clock: Clock,
        *,
        lock_heads: bool,
    ) -> None:
        self._cursor = cursor
        self._shards = shards
        self._cache = cache
        self._lock_heads = lock_heads
        self._taken: dict[str, Head] = {}
        self._versions: dict[str, int] = {}
        self.now = clock(cursor)
        self.unreadable: dict[str, UnknownEventShape] = {}
        self.advances: Sequence[PartitionAdvance] = ()
        self.written = False

    @property
    def connection(self) -> psycopg.Connection[TupleRow]:
        """For what must stand or fall with the batch and is no part of it: a hole that was filled, a letter retried."""
        return self._cursor.connection

    def accounts(self, team_ids: Collection[str]) -> dict[str, TeamAccount]:
        """The accounts of these teams, ours to change; a team without an account, or unreadable, is absent."""
        missing: list[str] = []
        for team_id in team_ids:
            if team_id in self._taken:
                continue
            head = None if self._lock_heads else self._cache.take(team_id)
            if head is None:
                missing.append(team_id)
            else:
                self._hold(team_id, head)
        for shard, teams in _by_shard(self._shards, missing, lambda team: team):
            for team_id, head in self._heads(shard, teams).items():
                self._hold(team_id, head)
        return {team_id: self._taken[team_id].account for team_id in team_ids if team_id in self._taken}

    def _heads(self, shard: int, teams: Sequence[str]) -> dict[str, Head]:
        """The heads of these teams of one shard, but those of a newer shape: only their own teams stop."""
        try:
            return load_heads(self._cursor, shard, teams, lock=self._lock_heads)
        except UnknownEventShape as error:
            if len(teams) > 1:
                return {name: head for team in teams for name, head in self._heads(shard, [team]).items()}
            self.unreadable[teams[0]] = error
            return {}

    def _hold(self, team_id: str, head: Head) -> None:
        self._taken[team_id] = head
        self._versions[team_id] = head.account.version

    def claims(self, keys: Collection[tuple[str, str]]) -> dict[str, Claim]:
        """The claims already in the log among these (team id, claim), by claim: of usage, and of payments."""
        return {
            key: Claim(on_file.content_digest, on_file.version, on_file.event)
            for key, on_file in self._on_file(keys).items()
        }

    def _on_file(self, pairs: Collection[tuple[str, str]]) -> dict[str, RecordClaim]:
        """The claims on file, but those of a newer shape: only their own teams stop."""
        keys: dict[int, list[str]] = defaultdict(list)
        for team_id, usage_key in pairs:
            keys[self._shards.shard_of(team_id)].append(usage_key)
        try:
            return load_claims(self._cursor, keys)
        except UnknownEventShape as error:
            if len(pairs) > 1:
                return {key: claim for part in _parts(pairs) for key, claim in self._on_file(part).items()}
            ((team_id, _),) = pairs
            self.unreadable[team_id] = error
            return {}

    def index(self, team_id: str) -> StoredIndex:
        """The team's index, read lazily inside this transaction and beside the very head that is decided on."""
        shard = self._shards.shard_of(team_id)
        if self._lock_heads or team_id not in self._versions:
            return StoredIndex(self._cursor, shard, team_id)
        return _IndexOfHead(self._cursor, shard, team_id, self._versions[team_id])

    def write(self, batch: UsageBatch) -> None:
        """The batch is written, heads and offsets by compare-and-set; what others wait for is taken last.

        Raises: MovedHeads, Fenced.
        """
        self.advances, self.written = batch.advances, True
        contexts = [(self._shards.shard_of(each.team_id), each) for each in batch.contexts]
        with copying_contexts(self._cursor, contexts):
            encoded = self._encoded(batch)
        if encoded:
            self._move_heads(batch, [write for writes in encoded.values() for write in writes])
        if batch.advances:
            self._advance(sorted(batch.advances))
        changed = [team for team, append in batch.appends.items() if append.index_changes]
        for shard, teams in _by_shard(self._shards, changed, lambda team: team):
            change_index(self._cursor, shard, [(team, batch.appends[team].index_changes) for team in teams])
        self._write_beside(batch)
        if beside := self._homes(batch) - encoded.keys():
            # Shards whose counter we draw are held by that.
            stay_home(self._cursor, beside)
        positions = self._append(encoded)
        hit("batch.after_events")
        self._count(batch, positions)

    def _homes(self, batch: UsageBatch) -> set[int]:
        """The shards in which rows of the batch's partitions live."""
        partitions = {each.partition for each in batch.advances}
        partitions |= {each.partition for each in batch.outcomes}
        partitions |= {each.partition for each in batch.dead_letters}
        partitions |= {each.partition for each in batch.holes}
        return {each.partition % self._shards.count for each in partitions}

    def _encoded(self, batch: UsageBatch) -> dict[int, list[EncodedWrite]]:
        encoded: dict[int, list[EncodedWrite]] = {}
        for shard, teams in _by_shard(self._shards, batch.appends, lambda team: team):
            encoded[shard] = [encode(shard, self._account_write(team, batch)) for team in teams]
        return encoded

    def _account_write(self, team_id: str, batch: UsageBatch) -> AccountWrite:
        append, head = batch.appends[team_id], self._taken[team_id]
        assert append.expected_version == self._versions[team_id], f"{team_id} was decided on another version"
        return AccountWrite(
            team_id,
            head.account_id,
            append.expected_version,
            head.chain_hash,
            append.account,
            new_events(append.events),
            append.index_changes,
        )

    def _move_heads(self, batch: UsageBatch, writes: list[EncodedWrite]) -> None:
        try:
            move_heads(self._cursor, writes)
        except HeadMoved as error:
            raise MovedHeads(str(error)) from error
        for write in writes:
            account = batch.appends[write.team_id].account
            self._taken[write.team_id] = Head(account, write.account_id, write.chain_hash)
            self._versions[write.team_id] = write.version

    def _advance(self, advances: Sequence[PartitionAdvance]) -> None:
        """The partitions, in their order, went from their expected offsets to the next ones. Raises: Fenced."""
        places = [_place(each.partition, self._shards.count) for each in advances]
        assert len(set(places)) == len(places), f"a batch advances a partition once: {places}"
        shards, clusters, topics, parts = zip(*places, strict=True)
        self._cursor.execute(
            "UPDATE consumed AS c SET next_offset = n.next_offset"
            " FROM unnest(%b::integer[], %b::text[], %b::text[], %b::integer[], %b::bigint[], %b::bigint[])"
            " AS n (shard, cluster_id, topic_id, part, expected, next_offset)"
            " WHERE (c.shard, c.cluster_id, c.topic_id, c.part) = (n.shard, n.cluster_id, n.topic_id, n.part)"
            " AND c.next_offset = n.expected AND c.halted IS NULL"
            " RETURNING c.shard, c.cluster_id, c.topic_id, c.part",
            (
                list(shards),
                list(clusters),
                list(topics),
                list(parts),
                [each.expected_offset for each in advances],
                [each.next_offset for each in advances],
            ),
            binary=True,
        )
        moved = set(self._cursor.fetchall())
        for place, advance in zip(places, advances, strict=True):
            if place not in moved:
                raise Fenced(
                    f"partition {advance.partition.topic}/{advance.partition.partition} is halted or no longer at"
                    f" offset {advance.expected_offset}"
                )

    def _write_beside(self, batch: UsageBatch) -> None:
        """What has rows of its own: outcomes without an event, dead letters, holes."""
        # Offsets that are passed now have no rows yet. Those read again (a hole, a retry) may, and their first word stays.
        again = not batch.advances
        _insert(
            self._cursor,
            "usage_outcome",
            _OUTCOME_COLUMNS,
            [self._outcome(each, batch) for each in batch.outcomes],
            again,
        )
        _insert(
            self._cursor,
            "dead_letter",
            _DEAD_LETTER_COLUMNS,
            [self._letter(each, batch) for each in batch.dead_letters],
            again,
        )
        _insert(
            self._cursor,
            "stream_hole",
            _HOLE_COLUMNS,
            [self._hole(each, batch) for each in batch.holes],
            again,
        )

    def _outcome(self, row: OutcomeRow, batch: UsageBatch) -> tuple[object, ...]:
        return (
            *_partition_columns(row.partition, self._shards.count),
            row.offset,
            row.outcome,
            row.reason,
            row.detail,
            row.team_id,
            row.usage_key and UUID(hex=row.usage_key),
            row.first_version,
            batch.recorded_at,
        )

    def _letter(self, letter: DeadLetter, batch: UsageBatch) -> tuple[object, ...]:
        headers = [_header(name, value) for name, value in letter.headers]
        return (
            *_partition_columns(letter.partition, self._shards.count),
            letter.offset,
            letter.arrived_at,
            letter.outcome,
            letter.reason,
            letter.detail,
            letter.key,
            letter.value,
            _json(headers),
            batch.recorded_at,
        )

    def _hole(self, hole: Hole, batch: UsageBatch) -> tuple[object, ...]:
        return (
            *_partition_columns(hole.partition, self._shards.count),
            hole.first_offset,
            hole.next_offset,
            batch.recorded_at,
        )

    def _append(self, encoded: dict[int, list[EncodedWrite]]) -> dict[int, tuple[int, int]]:
        """The events are in the log; returns the first and last position of each shard."""
        if not encoded:
            return {}
        counts = {shard: sum(len(write.rows) for write in writes) for shard, writes in encoded.items()}
        first = draw_positions(self._cursor, counts)
        copy_events(self._cursor, [(first[shard], writes) for shard, writes in encoded.items()])
        return {shard: (first[shard], first[shard] + count - 1) for shard, count in counts.items()}

    def _count(self, batch: UsageBatch, positions: dict[int, tuple[int, int]]) -> None:
        """A row for each partition says which offsets this batch passed, to which outcomes and positions."""
        drawn = _json({str(shard): list(bounds) for shard, bounds in positions.items()})
        rows = [
            (
                *_partition_columns(advance.partition, self._shards.count),
                advance.expected_offset,
                advance.next_offset,
                advance.records,
                _json(advance.outcomes),
                drawn,
                batch.recorded_at,
            )
            for advance in batch.advances
            if advance.next_offset > advance.expected_offset
        ]
        _insert(self._cursor, "consumed_batch", _BATCH_COLUMNS, rows, again=False)

    def keep_accounts(self) -> None:
        """The cache holds the accounts as they were committed."""
        for team_id, head in self._taken.items():
            # One that was changed and not written is not what is stored.
            if head.account.version == self._versions[team_id]:
                self._cache.put(team_id, head)


class _IndexOfHead(StoredIndex):
    """The index of an account whose head is not locked yet: locked at the first read, and moved if it is a later one.

    A kept account beside a newer index would be neither the one nor the other: a refund could find neither the debt
    nor its repayment. Few records ask the index at all.
    """

    def __init__(self, cursor: Cursor[TupleRow], shard: int, team_id: str, version: int) -> None:
        super().__init__(cursor, shard, team_id)
        self._version = version
        self._locked = False

    @override
    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim. Raises: MovedHeads."""
        self._lock()
        return super().usage(usage_key)

    @override
    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of the key. Raises: MovedHeads."""
        self._lock()
        return super().entry(kind, key)

    @override
    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of a kind, greatest key first. Raises: MovedHeads."""
        self._lock()
        return super().latest(kind, prefix)

    @override
    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """The charges recorded then or later. Raises: MovedHeads."""
        self._lock()
        return super().charges_since(recorded_since)

    def _lock(self) -> None:
        if self._locked:
            return
        self._cursor.execute(
            "SELECT version FROM account_head WHERE shard = %s AND team_id = %s FOR UPDATE",
            (self._shard, self._team_id),
        )
        row = self._cursor.fetchone()
        if row is None or row[0] != self._version:
            raise MovedHeads(f"the head of {self._team_id!r} is no longer at version {self._version}")
        self._locked = True


_PARTITION_COLUMNS = "shard integer, cluster_id text, topic_id text, topic text, part integer"
_OUTCOME_COLUMNS = (
    f"{_PARTITION_COLUMNS}, kafka_offset bigint, outcome text, reason text, detail text, team_id text, usage_key uuid,"
    " first_version bigint, recorded_at timestamptz"
)
_DEAD_LETTER_COLUMNS = (
    f"{_PARTITION_COLUMNS}, kafka_offset bigint, arrived_at timestamptz, outcome text, reason text, detail text,"
    " record_key bytea, record_value bytea, record_headers jsonb, recorded_at timestamptz"
)
_HOLE_COLUMNS = f"{_PARTITION_COLUMNS}, first_offset bigint, next_offset bigint, recorded_at timestamptz"
_BATCH_COLUMNS = (
    f"{_PARTITION_COLUMNS}, first_offset bigint, next_offset bigint, records integer, outcomes jsonb, positions jsonb,"
    " recorded_at timestamptz"
)


def _insert(
    cursor: Cursor[TupleRow], table: str, columns: str, rows: Sequence[tuple[object, ...]], again: bool
) -> None:
    """The rows are in the table, by one statement however many they are; with ``again`` those that are there stay."""
    if not rows:
        return
    cursor.execute(_insertion(table, columns, again), [list(column) for column in zip(*rows, strict=True)])


@cache
def _insertion(table: str, columns: str, again: bool) -> bytes:
    names, types = zip(*(column.split() for column in columns.split(",")), strict=True)
    arrays = SQL(", ").join(SQL("%b::{}[]").format(SQL(each)) for each in types)
    statement = SQL("INSERT INTO {} ({}) SELECT * FROM unnest({})").format(
        Identifier(table), SQL(", ").join(map(Identifier, names)), arrays
    )
    if again:
        statement += SQL(" ON CONFLICT DO NOTHING")
    return statement.as_bytes()


def _place(partition: PartitionKey, shards: int) -> tuple[int, str, str, int]:
    """The key of a partition's rows; they live with its home shard."""
    return partition.partition % shards, partition.cluster_id, partition.topic_id, partition.partition


def _partition_columns(partition: PartitionKey, shards: int) -> tuple[int, str, str, str, int]:
    shard, cluster_id, topic_id, part = _place(partition, shards)
    return shard, cluster_id, topic_id, partition.topic, part


def _by_shard(shards: ShardMap, items: Iterable[T], team_of: Callable[[T], str]) -> list[tuple[int, list[T]]]:
    """The items by the shard of their team, shards and teams in order."""
    grouped: dict[int, list[T]] = defaultdict(list)
    for item in items:
        grouped[shards.shard_of(team_of(item))].append(item)
    return [(shard, sorted(grouped[shard], key=team_of)) for shard in sorted(grouped)]


def _parts(pairs: Collection[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Two halves, so that the one that cannot be read is found in few questions."""
    every = list(pairs)
    middle = len(every) // 2
    return every[:middle], every[middle:]


def _header(name: str, value: bytes | None) -> list[str | None]:
    """Name and hex of the value; a name with NUL, which jsonb cannot hold, is shown without and follows in hex."""
    shown = [name.replace("\0", "\ufffd"), None if value is None else value.hex()]
    return [*shown, name.encode().hex()] if "\0" in name else shown


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
