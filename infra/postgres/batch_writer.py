"""The batch path: everything a batch of records causes, in one transaction, on a connection of its own."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from time import monotonic, sleep
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
from prometheus_client import Counter
from psycopg import Cursor, errors
from psycopg.pq import PipelineStatus, TransactionStatus
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
from infra.postgres import arrays
from infra.postgres.appending import (
    COPY_EVENTS,
    DRAW,
    MOVE_HEADS,
    AccountWrite,
    EncodedWrite,
    HeadMoved,
    channel_of,
    copying_contexts,
    encode,
    event_data,
    new_events,
    require_all_moved,
    send_heads,
    shard_moved,
    stay_home,
)
from infra.postgres.connections import FIRST, NOT_REACHED
from infra.postgres.exchange import CommitUnderWay, Exchange, Row, Statement, know
from infra.postgres.heads import Head, RecordClaim, StoredIndex, load_claims, load_heads, load_heads_of_shards
from infra.postgres.index_rows import change_index
from infra.postgres.ledger_store import Clock, database_clock
from infra.postgres.recent_claims import RecentClaims
from infra.postgres.shards import ShardMap

ACCOUNTS_KEPT_MAX = 9_000
"""How many accounts a worker keeps between batches; the least recently used one goes first."""

CARRIED_SECONDS_MAX = 1.0
"""How long after it was read the database's clock may be told by this machine's."""

CAREFUL_BATCHES = 4
"""For so many batches after a start, or after a claim that was not known, every claim is asked for."""

TEAMS_DECIDED_AGAIN_MAX = 200
"""A batch of which more teams had moved is decided again as a whole, with all its heads locked."""

PORTIONS = 3
PORTION_TEAMS_MIN = 100
"""A batch's heads are sent in so many portions of at least so many teams."""

SETTLE_SECONDS_MAX = 60.0
"""How long a worker tries to learn whether a COMMIT without an answer happened."""

COMMIT_OUTCOME_RESOLVED = Counter(
    "coffer_commit_outcome_resolved",
    "Commits whose answer was lost, by what reading the offsets back showed",
    ["outcome"],
)

TEAMS_DECIDED_AGAIN = Counter(
    "coffer_teams_decided_again",
    "Accounts that others had moved and that a batch decided anew before its COMMIT",
)

# Heads are looked up one by one in the order given, so they are locked in that order; a hash join would take its own.
# Every statement here has its index, and a plan made while the ledger was empty must not scan it when it has grown.
_RACED = ("ledger_events", "usage_context")
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


class EarlierBatchLost(Exception):
    """The batch before, left before its COMMIT was answered, was not written; nor was this one.

    Both are to be settled again, in their order.
    """


class _Left(NamedTuple):
    """A batch whose COMMIT was sent and not answered yet."""

    transaction: PostgresBatchTransaction
    commit: CommitUnderWay


class _CarriedClock:
    """The database's clock: read with a batch, and carried on by this machine's until the next. It never steps back."""

    def __init__(self) -> None:
        self._latest = self._at = datetime.min.replace(tzinfo=UTC)
        self._read = -CARRIED_SECONDS_MAX

    def read(self, at: datetime) -> None:
        """The database told its time just now."""
        self._at, self._read = at, monotonic()

    def now(self) -> datetime | None:
        """The time now; None when it was told too long ago."""
        carried = monotonic() - self._read
        if carried > CARRIED_SECONDS_MAX:
            return None
        self._latest = max(self._latest, self._at + timedelta(seconds=carried))
        return self._latest


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
        self.shards = self._shards = shards
        self._database = database
        self._clock = clock
        self._database_clock = _CarriedClock()
        self.cache = self._cache = AccountCache(accounts_kept_max)
        self.recent = RecentClaims()
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._server_session: TupleRow | None = None
        self._left: _Left | None = None
        self._lock_heads = False
        self._careful_batches = CAREFUL_BATCHES
        self.held_seconds: float | None = None
        """How long the last batch kept others waiting for the counters of its shards, but for the COMMIT; None without events."""

    @contextmanager
    def transaction(self) -> Iterator[PostgresBatchTransaction]:
        """One transaction, committed when the block ends well and something was written.

        After MovedHeads the next one loads heads with their locks, so that it cannot move again.
        Raises: MovedHeads, Fenced; Busy when nothing was written and a retry is safe; OutcomeUnknown; EarlierBatchLost.
        """
        self.confirm()
        with self._begun() as transaction:
            yield transaction
        self._leave(transaction)
        self._finish()

    @contextmanager
    def overlapped(self) -> Iterator[PostgresBatchTransaction]:
        """As ``transaction``, but left before its COMMIT is answered, so that the next batch is decided meanwhile.

        What the block wrote is durable once ``confirm`` returns, or the block of the next batch has written; either says
        EarlierBatchLost if it never will be. Asking the database for anything waits for that answer first.
        """
        with self._begun() as transaction:
            yield transaction
        self._leave(transaction)

    @property
    def is_careful(self) -> bool:
        """Whether every claim is asked for: at the start, and for some batches after one that met what it had not expected."""
        return self._careful_batches > 0 or self._lock_heads

    def be_careful(self) -> None:
        """Every claim is asked for, for some batches."""
        self._careful_batches = CAREFUL_BATCHES

    @property
    def has_left(self) -> bool:
        """Whether a batch waits for the answer to its COMMIT."""
        return self._left is not None

    def read_clock(self, now: datetime) -> None:
        """The database's clock was at this instant just now."""
        self._database_clock.read(now)

    def confirm(self) -> None:
        """No batch waits for the answer to its COMMIT any more.

        Raises: EarlierBatchLost when that batch must be settled again; Busy, OutcomeUnknown.
        """
        try:
            self._finish()
        except (MovedHeads, Fenced) as error:
            raise EarlierBatchLost(str(error)) from error

    @contextmanager
    def _begun(self) -> Iterator[PostgresBatchTransaction]:
        try:
            self._connected()
            transaction = PostgresBatchTransaction(self, self._lock_heads)
            transaction.now = self._now(transaction)
            hit("batch.after_begin")
            yield transaction
        except (MovedHeads, EarlierBatchLost):
            self._moved()
            raise
        except psycopg.Error as error:
            self._roll_back()
            raise self._told(error) from error
        except BaseException:
            self._roll_back()
            raise

    def _told(self, error: psycopg.Error) -> Exception:
        """What an error of the database means, when it is known that nothing was written."""
        if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.UniqueViolation):
            self._lock_heads = True
            if (error.diag.table_name or "").startswith(_RACED) or not isinstance(
                error, errors.UniqueViolation
            ):
                # A version or a claim was taken after we looked: decided again, the batch will see it.
                return MovedHeads(str(error))
        if isinstance(error, NOT_REACHED):
            return Busy(f"the batch could not be written, nothing of it was: {error}")
        return error

    def ready(self) -> psycopg.Connection[TupleRow]:
        """The connection, once no batch waits for the answer to its COMMIT. Raises: as ``confirm``."""
        self.confirm()
        return self._connected()

    def _now(self, transaction: PostgresBatchTransaction) -> datetime:
        if self._clock is None and (now := self._database_clock.now()) is not None:
            return now
        now = (self._clock or database_clock)(transaction.cursor)
        if self._clock is None:
            self._database_clock.read(now)
        return now

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
        self._left = None
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
        """The first row of one statement in a transaction of its own, where the partition's rows live.

        Raises: Busy, EarlierBatchLost.
        """
        self.confirm()
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
        if self._connection is not None and (self._left is not None or not self._connection.closed):
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
            know(connection, _STATEMENTS)
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
        # Whoever was not the first may have taken what we know nothing of.
        self.be_careful()
        connection = self._connection
        if connection is None or self._left is not None:
            # What is under way is the transaction before: this one has not begun.
            return
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            # Its answers were not read to the end: nothing more can be said on it.
            self.close()
            return
        try:
            connection.rollback()
        except NOT_REACHED:
            # Its end rolls it back as well.
            self.close()

    def _leave(self, transaction: PostgresBatchTransaction) -> None:
        """Events and COMMIT are on their way; the accounts are kept as they will be."""
        connection = transaction.begun_on
        if connection is None or connection.info.transaction_status == TransactionStatus.IDLE:
            # Nothing was asked of the database, nothing written.
            assert not transaction.written, "what was written waits for its COMMIT"
            transaction.keep_accounts()
            return
        try:
            commit = CommitUnderWay(connection, COPY_EVENTS.encode(), transaction.take_event_data())
        except psycopg.Error as error:
            self._roll_back()
            raise self._told(error) from error
        self._left = _Left(transaction, commit)
        transaction.keep_accounts()
        hit("batch.under_way")

    def _finish(self) -> None:
        """The batch whose COMMIT was sent is durable. Raises: MovedHeads, Fenced, Busy, OutcomeUnknown."""
        if self._left is None:
            return
        (transaction, commit), self._left = self._left, None
        try:
            commit.finish()
        except psycopg.Error as error:
            transaction.forget_accounts()
            if commit.is_known_to_have_failed:
                self._roll_back()
                raise self._told(error) from error
            if not isinstance(error, NOT_REACHED):
                raise
            self.close()
            self.be_careful()
            self._settle(transaction, error)
        self._lock_heads = False
        self._careful_batches = max(0, self._careful_batches - 1)
        drawn, ended = transaction.drawn_at, commit.ended_at
        self.held_seconds = None if drawn is None or ended is None else (ended - drawn) / 1e6
        hit("batch.after_commit")

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
        store: PostgresBatchStore,
        lock_heads: bool,
    ) -> None:
        self._store = store
        self.begun_on: psycopg.Connection[TupleRow] | None = None
        self._shards = store.shards
        self._cache = store.cache
        self._lock_heads = lock_heads
        self._taken: dict[str, Head] = {}
        self._versions: dict[str, int] = {}
        self._claims: list[str] = []
        self._expected_new: set[tuple[str, str]] = set()
        self._locked: set[str] = set()
        self.now = datetime.min.replace(tzinfo=UTC)
        self.unreadable: dict[str, UnknownEventShape] = {}
        self.advances: Sequence[PartitionAdvance] = ()
        self.written = False
        self._event_data: list[bytes] = []
        self.drawn_at: int | None = None

    @property
    def connection(self) -> psycopg.Connection[TupleRow]:
        """For what must stand or fall with the batch and is no part of it: a hole that was filled, a letter retried.

        All that was written is seen on it.
        """
        connection = self._ready()
        if pending := self.take_event_data():
            with connection.cursor().copy(COPY_EVENTS) as copy:
                for each in pending:
                    copy.write(each)
        return connection

    def take_event_data(self) -> list[bytes]:
        """The rows of events that are not sent yet; whoever takes them sends them."""
        taken, self._event_data = self._event_data, []
        return taken

    def _ready(self) -> psycopg.Connection[TupleRow]:
        if self.begun_on is None:
            self.begun_on = self._store.ready()
        return self.begun_on

    @property
    def cursor(self) -> Cursor[TupleRow]:
        """For a question of this transaction; the one before has ended."""
        return self._ready().cursor()

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
        if missing:
            for team_id, head in self._heads_of(missing).items():
                self._hold(team_id, head)
        return {team_id: self._taken[team_id].account for team_id in team_ids if team_id in self._taken}

    def _heads_of(self, team_ids: Sequence[str]) -> dict[str, Head]:
        """The heads of these teams; locked, shard by shard, after one had moved."""
        placed = _by_shard(self._shards, team_ids, lambda team: team)
        if not self._lock_heads:
            try:
                return load_heads_of_shards(self.cursor, dict(placed))
            except UnknownEventShape:
                # One is of a newer shape: it is found shard by shard.
                pass
        return {
            team_id: head
            for shard, teams in placed
            for team_id, head in self._heads(shard, teams, lock=self._lock_heads).items()
        }

    def _heads(self, shard: int, teams: Sequence[str], *, lock: bool) -> dict[str, Head]:
        """The heads of these teams of one shard, but those of a newer shape: only their own teams stop."""
        try:
            return load_heads(self.cursor, shard, teams, lock=lock)
        except UnknownEventShape as error:
            if len(teams) > 1:
                return {
                    name: head
                    for team in teams
                    for name, head in self._heads(shard, [team], lock=lock).items()
                }
            self.unreadable[teams[0]] = error
            return {}

    def _hold(self, team_id: str, head: Head) -> None:
        self._taken[team_id] = head
        self._versions[team_id] = head.account.version

    def claims(self, keys: Collection[tuple[str, str]]) -> dict[str, Claim]:
        """The claims already in the log among these (team id, claim), by claim: of usage, and of payments.

        Usually only those that this worker made lately are asked for now. The others are expected to be new; ``write`` asks
        for them while the server works anyway, and if one is not, the batch is decided again with all claims known.
        """
        asked = keys if self._store.is_careful else self._store.recent.among(keys)
        self._expected_new.update(keys if not asked else set(keys).difference(asked))
        found = self._on_file(asked) if asked else {}
        if not self._store.recent.knows(found):
            self._store.be_careful()
        return {
            key: Claim(on_file.content_digest, on_file.version, on_file.event)
            for key, on_file in found.items()
        }

    def _on_file(self, pairs: Collection[tuple[str, str]]) -> dict[str, RecordClaim]:
        """The claims on file, but those of a newer shape: only their own teams stop."""
        keys: dict[int, list[str]] = defaultdict(list)
        for team_id, usage_key in pairs:
            keys[self._shards.shard_of(team_id)].append(usage_key)
        try:
            return load_claims(self.cursor, keys)
        except UnknownEventShape as error:
            if len(pairs) > 1:
                return {key: claim for part in _parts(pairs) for key, claim in self._on_file(part).items()}
            ((team_id, _),) = pairs
            self.unreadable[team_id] = error
            return {}

    def index(self, team_id: str) -> StoredIndex:
        """The team's index, read lazily inside this transaction and beside the very head that is decided on."""
        is_locked = self._lock_heads or team_id in self._locked
        return _IndexOfHead(self, self._shards.shard_of(team_id), team_id, is_locked)

    def require_version(self, shard: int, team_id: str) -> None:
        """The head is locked, at the version that is decided on. Raises: MovedHeads."""
        cursor = self.cursor
        cursor.execute(
            "SELECT version FROM account_head WHERE shard = %s AND team_id = %s FOR UPDATE", (shard, team_id)
        )
        row = cursor.fetchone()
        if row is None or row[0] != self._versions.get(team_id):
            raise MovedHeads(f"the head of {team_id!r} is no longer at version {self._versions.get(team_id)}")

    def write(self, batch: UsageBatch) -> None:
        """The batch is written but for its events, which follow with the COMMIT; what others wait for is taken last.

        Heads and offsets go on by compare-and-set. Raises: MovedHeads, Fenced, EarlierBatchLost.
        """
        connection = self._ready()
        self.advances, self.written = batch.advances, True
        encoded = self._move(batch, connection)
        changed = [team for team, append in batch.appends.items() if append.index_changes]
        for shard, teams in _by_shard(self._shards, changed, lambda team: team):
            change_index(self.cursor, shard, [(team, batch.appends[team].index_changes) for team in teams])
        self._write_beside(batch)
        if beside := self._homes(batch) - encoded.keys():
            # Shards whose counter we draw are held by that.
            stay_home(self.cursor, beside)
        first = self._draw(batch, connection, encoded)
        self._event_data = (
            event_data([(first[shard], writes) for shard, writes in encoded.items()]) if encoded else []
        )
        # What could decide anew holds every record of the batch, which waits for its COMMIT while the next one is read.
        batch.again = None
        hit("batch.after_events")

    def _homes(self, batch: UsageBatch) -> set[int]:
        """The shards in which rows of the batch's partitions live."""
        partitions = {each.partition for each in batch.advances}
        partitions |= {each.partition for each in batch.outcomes}
        partitions |= {each.partition for each in batch.dead_letters}
        partitions |= {each.partition for each in batch.holes}
        return {each.partition % self._shards.count for each in partitions}

    def _move(
        self, batch: UsageBatch, connection: psycopg.Connection[TupleRow]
    ) -> dict[int, list[EncodedWrite]]:
        """Heads and offsets go on, while what follows is encoded; contexts are stored. Raises: MovedHeads, Fenced."""
        portions = self._portions(batch)
        contexts = [(self._shards.shard_of(each.team_id), each) for each in batch.contexts]
        with copying_contexts(self.cursor, contexts):
            encoded = self._encoded(batch, portions[:1])
        exchange = Exchange(connection)
        asked = self._send_expected_new(exchange)
        writes = encoded
        for portion in portions[1:]:
            send_heads(exchange, writes)
            writes = self._encoded(batch, [portion])
            encoded = encoded + writes
        if writes:
            send_heads(exchange, writes)
        advances = sorted(batch.advances)
        if advances:
            self._send_advances(exchange, advances)
        answers = exchange.finish()
        if asked and answers[0].rows:
            raise MovedHeads("a record that was expected to be new is not")
        if advances:
            self._require_advanced(advances, answers[-1])
        moved = sum(answer.rows for answer in answers[asked : -1 if advances else None])
        if moved != len(encoded):
            encoded = self._with_moved_again(batch, connection, encoded, len(encoded) - moved)
        self._moved(batch, encoded)
        by_shard: dict[int, list[EncodedWrite]] = {}
        for write in encoded:
            by_shard.setdefault(write.shard, []).append(write)
        return by_shard

    def _with_moved_again(
        self,
        batch: UsageBatch,
        connection: psycopg.Connection[TupleRow],
        encoded: list[EncodedWrite],
        missing: int,
    ) -> list[EncodedWrite]:
        """The same writes, those of teams that somebody else had moved decided anew on their heads, which are locked now.

        Their locks come out of order, so two workers with the same teams may meet in a circle: the server ends one of them,
        and that one decides its whole batch again. Raises: MovedHeads when they cannot be done alone.
        """
        told = f"{missing} of {len(encoded)} heads had moved"
        late = self._moved_by_others(encoded)
        if batch.again is None or len(late) != missing or missing > TEAMS_DECIDED_AGAIN_MAX:
            raise MovedHeads(told)
        self._locked.update(late)
        for shard, teams in _by_shard(self._shards, late, lambda team: team):
            for team_id, head in self._heads(shard, teams, lock=True).items():
                self._hold(team_id, head)
                late.discard(team_id)
        again = None if late else batch.again({team: self._taken[team].account for team in self._locked})
        if again is None:
            raise MovedHeads(told)
        batch.appends |= again
        written = {
            team: encode(self._shards.shard_of(team), self._account_write(team, batch)) for team in again
        }
        exchange = Exchange(connection)
        send_heads(exchange, sorted(written.values(), key=lambda write: (write.shard, write.team_id)))
        (answer,) = exchange.finish()
        try:
            require_all_moved(answer.rows, len(written))
        except HeadMoved as error:
            raise MovedHeads(str(error)) from error
        TEAMS_DECIDED_AGAIN.inc(len(written))
        return [written.get(write.team_id, write) for write in encoded]

    def _moved_by_others(self, encoded: list[EncodedWrite]) -> set[str]:
        """The teams whose heads are not as this transaction wanted to write them."""
        cursor = self.cursor
        cursor.execute(
            "SELECT n.team_id FROM unnest(%b::integer[], %b::text[], %b::bytea[]) AS n (shard, team_id, hash)"
            " JOIN account_head AS h ON h.shard = n.shard AND h.team_id = n.team_id AND h.chain_hash <> n.hash",
            (
                [write.shard for write in encoded],
                [write.team_id for write in encoded],
                [write.chain_hash for write in encoded],
            ),
        )
        return {team_id for (team_id,) in cursor}

    def _send_expected_new(self, exchange: Exchange) -> bool:
        """The claims that were not asked for are; returns whether there are any."""
        if not self._expected_new:
            return False
        keys: dict[int, list[str]] = defaultdict(list)
        for team_id, key in self._expected_new:
            keys[self._shards.shard_of(team_id)].append(key)
        ends = list(accumulate(map(len, keys.values())))
        exchange.send(
            _CLAIMED,
            arrays.int4s(list(keys)),
            arrays.int4s([end - len(each) + 1 for end, each in zip(ends, keys.values(), strict=True)]),
            arrays.int4s(ends),
            arrays.uuids([key for each in keys.values() for key in each]),
        )
        return True

    def _portions(self, batch: UsageBatch) -> list[list[tuple[int, str]]]:
        """Shards and teams in the order of locks, in parts: while the server moves the heads of one, the next is encoded."""
        placed = sorted((self._shards.shard_of(team), team) for team in batch.appends)
        size = max(PORTION_TEAMS_MIN, -(-len(placed) // PORTIONS))
        return [placed[at : at + size] for at in range(0, len(placed), size)]

    def _encoded(self, batch: UsageBatch, portions: Iterable[list[tuple[int, str]]]) -> list[EncodedWrite]:
        return [
            encode(shard, self._account_write(team, batch)) for portion in portions for shard, team in portion
        ]

    def _account_write(self, team_id: str, batch: UsageBatch) -> AccountWrite:
        append, head = batch.appends[team_id], self._taken[team_id]
        assert append.expected_version == self._versions[team_id], f"{team_id} was decided on another version"
        events = new_events(append.events)
        self._claims += [event.claim for event in events if event.claim]
        return AccountWrite(
            team_id,
            head.account_id,
            append.expected_version,
            head.chain_hash,
            append.account,
            events,
            append.index_changes,
        )

    def _moved(self, batch: UsageBatch, writes: list[EncodedWrite]) -> None:
        for write in writes:
            account = batch.appends[write.team_id].account
            self._taken[write.team_id] = Head(account, write.account_id, write.chain_hash)
            self._versions[write.team_id] = write.version

    def _send_advances(self, exchange: Exchange, advances: Sequence[PartitionAdvance]) -> None:
        """The partitions, in their order, go from their expected offsets to the next ones."""
        places = [_place(each.partition, self._shards.count) for each in advances]
        assert len(set(places)) == len(places), f"a batch advances a partition once: {places}"
        shards, clusters, topics, parts = zip(*places, strict=True)
        exchange.send(
            _ADVANCE,
            arrays.int4s(shards),
            arrays.texts(clusters),
            arrays.texts(topics),
            arrays.int4s(parts),
            arrays.int8s([each.expected_offset for each in advances]),
            arrays.int8s([each.next_offset for each in advances]),
        )

    def _require_advanced(self, advances: Sequence[PartitionAdvance], answer: Row) -> None:
        """Raises: Fenced."""
        moved = {(arrays.to_int(part), arrays.to_text(topic)) for _, _, topic, part in answer.values}
        for each in advances:
            if (each.partition.partition, each.partition.topic_id) not in moved:
                raise Fenced(
                    f"partition {each.partition.topic}/{each.partition.partition} is halted or no longer at"
                    f" offset {each.expected_offset}"
                )

    def _write_beside(self, batch: UsageBatch) -> None:
        """What has rows of its own: outcomes without an event, dead letters, holes."""
        # Offsets that are passed now have no rows yet. Those read again (a hole, a retry) may, and their first word stays.
        again = not batch.advances
        _insert(
            self.cursor,
            "usage_outcome",
            _OUTCOME_COLUMNS,
            [self._outcome(each, batch) for each in batch.outcomes],
            again,
        )
        _insert(
            self.cursor,
            "dead_letter",
            _DEAD_LETTER_COLUMNS,
            [self._letter(each, batch) for each in batch.dead_letters],
            again,
        )
        _insert(
            self.cursor,
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

    def _draw(
        self,
        batch: UsageBatch,
        connection: psycopg.Connection[TupleRow],
        encoded: dict[int, list[EncodedWrite]],
    ) -> dict[int, int]:
        """The first position of each shard; a row for each partition says what this batch passed, to which positions."""
        counts = {shard: sum(len(write.rows) for write in writes) for shard, writes in encoded.items()}
        passed = [each for each in batch.advances if each.next_offset > each.expected_offset]
        if not counts and not passed:
            return {}
        places = [_partition_columns(each.partition, self._shards.count) for each in passed]
        shards, clusters, topic_ids, topics, parts = zip(*places, strict=True) if places else ((),) * 5
        exchange = Exchange(connection)
        exchange.send(
            _DRAW_AND_COUNT,
            arrays.int4s(list(counts)),
            arrays.int8s(list(counts.values())),
            arrays.texts([channel_of(shard) for shard in counts]),
            arrays.int4s(shards),
            arrays.texts(clusters),
            arrays.texts(topic_ids),
            arrays.texts(topics),
            arrays.int4s(parts),
            arrays.int8s([each.expected_offset for each in passed]),
            arrays.int8s([each.next_offset for each in passed]),
            arrays.int4s([each.records for each in passed]),
            arrays.texts([_json(each.outcomes) for each in passed]),
            arrays.timestamp(batch.recorded_at),
        )
        (drawn,) = exchange.finish()
        last: dict[int, int] = {}
        for shard, position, now, _ in drawn.values:
            last[arrays.to_int(shard)] = arrays.to_int(position)
            self.drawn_at = arrays.to_int(now)
        if last.keys() != counts.keys():
            raise shard_moved(counts.keys() - last.keys())
        if self.drawn_at is not None:
            self._store.read_clock(arrays.to_time(self.drawn_at))
        return {shard: last[shard] - count + 1 for shard, count in counts.items()}

    def keep_accounts(self) -> None:
        """The cache holds the accounts as they are once this is committed, and the claims made are known."""
        for team_id, head in self._taken.items():
            # One that was changed and not written is not what is stored.
            if head.account.version == self._versions[team_id]:
                self._cache.put(team_id, head)
        self._store.recent.add(self._claims)

    def forget_accounts(self) -> None:
        """The cache holds none of the accounts: this was not committed, or nobody knows."""
        for team_id in self._taken:
            self._cache.take(team_id)


class _IndexOfHead(StoredIndex):
    """The index of an account whose head is not locked yet: locked at the first read, and moved if it is a later one.

    A kept account beside a newer index would be neither the one nor the other: a refund could find neither the debt
    nor its repayment. Few records ask the index at all.
    """

    def __init__(
        self, transaction: PostgresBatchTransaction, shard: int, team_id: str, is_locked: bool
    ) -> None:
        self._transaction = transaction
        self._place = shard, team_id
        self._is_locked = is_locked

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
        if not self._is_locked:
            self._transaction.require_version(*self._place)
            self._is_locked = True
        # Made at the first read: a batch decides on a thousand accounts, and asks about a few.
        super().__init__(self._transaction.cursor, *self._place)


_CLAIMED = Statement(
    b"claimed",
    b"SELECT FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS asked (shard, first, last)"
    b" CROSS JOIN LATERAL ("
    b"  SELECT FROM ledger_events AS own"
    b"  WHERE own.shard = asked.shard AND own.usage_key = ANY(($4::uuid[])[asked.first:asked.last])"
    b"  UNION ALL SELECT FROM archived_claim AS own"
    b"  WHERE own.shard = asked.shard AND own.usage_key = ANY(($4::uuid[])[asked.first:asked.last])"
    b" ) AS e LIMIT 1",
    (arrays.INT4S, arrays.INT4S, arrays.INT4S, arrays.UUIDS),
)
_ADVANCE = Statement(
    b"advance",
    b"UPDATE consumed AS c SET next_offset = n.next_offset"
    b" FROM unnest($1::integer[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[])"
    b" AS n (shard, cluster_id, topic_id, part, expected, next_offset)"
    b" WHERE (c.shard, c.cluster_id, c.topic_id, c.part) = (n.shard, n.cluster_id, n.topic_id, n.part)"
    b" AND c.next_offset = n.expected AND c.halted IS NULL"
    b" RETURNING c.shard, c.cluster_id, c.topic_id, c.part",
    (arrays.INT4S, arrays.TEXTS, arrays.TEXTS, arrays.INT4S, arrays.INT8S, arrays.INT8S),
)
_DRAW_AND_COUNT = Statement(
    b"draw_and_count",
    (
        f"WITH drawn AS ({DRAW.format('$1', '$2', '$3')}), counted AS ("  # noqa: S608 - from constants
        " INSERT INTO consumed_batch"
        " (shard, cluster_id, topic_id, topic, part, first_offset, next_offset, records, outcomes, positions, recorded_at)"
        " SELECT p.shard, p.cluster_id, p.topic_id, p.topic, p.part, p.first_offset, p.next_offset, p.records,"
        " p.outcomes::jsonb, (SELECT coalesce(jsonb_object_agg(d.shard::text,"
        " jsonb_build_array(d.position - d.events + 1, d.position)), '{}') FROM drawn AS d), $13::timestamptz"
        " FROM unnest($4::integer[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[], $10::bigint[],"
        " $11::integer[], $12::text[])"
        " AS p (shard, cluster_id, topic_id, topic, part, first_offset, next_offset, records, outcomes))"
        " SELECT shard, position, clock_timestamp(), pg_notify(channel, position::text) FROM drawn"
    ).encode(),
    (
        arrays.INT4S,
        arrays.INT8S,
        arrays.TEXTS,
        arrays.INT4S,
        arrays.TEXTS,
        arrays.TEXTS,
        arrays.TEXTS,
        arrays.INT4S,
        arrays.INT8S,
        arrays.INT8S,
        arrays.INT4S,
        arrays.TEXTS,
        arrays.TIMESTAMP,
    ),
)
_STATEMENTS = (_CLAIMED, MOVE_HEADS, _ADVANCE, _DRAW_AND_COUNT)

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
