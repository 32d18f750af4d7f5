"""A shard moves to another database while it is written: copied behind its writers' backs, then stopped for the last of it.

At every instant at most one database accepts writes of the shard, whenever this process dies:
  1. the log and the contexts are copied a portion at a time, then the read models, while everybody goes on writing;
  2. the counter row of the shard is locked at the old home, so its writers wait; what is left is copied and compared;
  3. the new home commits, still refusing writes; the old home is marked as left; the new one begins to accept.
Whatever was interrupted is taken further by asking for the same move again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import errors, sql
from psycopg.rows import TupleRow

from infra.failpoints import hit
from infra.postgres.appending import channel_of
from infra.postgres.read_models import Moved as Overtaken
from infra.postgres.read_models import Projector, ReadModel
from infra.postgres.shards import ShardMap

PORTION_EVENTS = 20_000
REST_EVENTS_MAX = 2_000
"""How much of the log may be left to copy while its writers wait."""

CATCH_UPS_MAX = 100
FREEZE_ATTEMPTS_MAX = 20
CLOCK_DIFFERENCE_SECONDS_MAX = 1.0

# A move may hold its locks for longer than short work may; whoever waits for them has bounds of their own.
_OPTIONS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=600000"

_LOG = "ledger_events"
_CONTEXTS = "usage_context"
# What says where shards live belongs to its database; kept heads are made again from the log by and by.
_NOT_COPIED = frozenset({"shard_log", "shard_arrival", "kept_head", "kept_entry", "kept_place"})

Connection = psycopg.Connection[TupleRow]
log = structlog.get_logger("moving")


class MoveRefused(Exception):
    """The shard cannot be moved like that; it is where it was, and the message says what would be right."""


class MoveFailed(Exception):
    """The copy is not equal to what it was made of; the shard lives where it lived and accepts writes there."""


class ShardPlace(msgspec.Struct, frozen=True):
    """What one database says of one shard: whether it lives there or where it went, and the end of its log there.

    ``events`` is the last position whose event is in the database: 0 where nothing was left behind.
    """

    shard: int
    database: str
    lives_here: bool
    moved_to: str | None
    position: int
    events: int


class Move(msgspec.Struct, frozen=True):
    """How far a move has come: events copied of those in the log; how long writers waited, in milliseconds, once it is done."""

    shard: int
    source: str
    to: str
    events: int
    events_in_log: int
    frozen_milliseconds: float = 0.0
    done: bool = False


Progress = Callable[[Move], None]


def places(shards: ShardMap) -> list[ShardPlace]:
    """Every shard in every database that holds it, or rows that it left behind; by shard."""
    found = [place for name in shards.databases for place in _places_at(shards, name)]
    return sorted(
        (each for each in found if each.lives_here or each.events),
        key=lambda each: (each.shard, not each.lives_here, each.database),
    )


def move(
    shards: ShardMap,
    shard: int,
    to: str,
    models: Sequence[ReadModel],
    *,
    progress: Progress = lambda _: None,
) -> Move:
    """The shard lives in the database of that name, with all of its log and of what belongs to it; read models are caught up.

    Its rows stay behind in its old home until ``forget``. A move that was interrupted goes on, one that is done changes nothing.
    Raises: MoveRefused, MoveFailed; psycopg.OperationalError, after which the same move may be asked for again.
    """
    if to not in shards.databases:
        raise MoveRefused(f"no database is called {to!r}: {', '.join(shards.databases)} would be right")
    if not 0 <= shard < shards.count:
        raise MoveRefused(f"shard {shard} does not exist: 0 to {shards.count - 1} would be right")
    source = _source(shards, shard, to)
    with _connections(shards, shard, source, to) as (old, new):
        moving = _Moving(_Ends(shard, source, to, old, new), models, progress)
        done = moving.run()
    shards.refresh()
    log.info("shard_moved", **msgspec.structs.asdict(done))
    return done


def forget(shards: ShardMap, shard: int, at: str) -> int:
    """The rows that the shard left behind in that database are gone; returns how many events they were.

    Refused unless the shard lives elsewhere with at least as much of its log. Needs the right to set
    ``session_replication_role``, since nothing else may take rows from the log.
    Raises: MoveRefused; psycopg.OperationalError, after which it may be asked for again.
    """
    if at not in shards.databases:
        raise MoveRefused(f"no database is called {at!r}: {', '.join(shards.databases)} would be right")
    home = shards.home_of(shard)
    if home == at:
        raise MoveRefused(
            f"shard {shard} lives in {at!r}: only what it left behind elsewhere can be forgotten"
        )
    with _connections(shards, shard, at, home) as (left, living):
        position = _row(living, "SELECT position FROM shard_log WHERE shard = %s AND lives_here", shard)
        rest = _row(left, "SELECT position FROM shard_log WHERE shard = %s AND NOT lives_here", shard)
        if position is None or rest is None or rest[0] > position[0]:
            raise MoveRefused(
                f"shard {shard} does not live in {home!r} with all that {at!r} holds: nothing was removed"
            )
        return _forgotten(left, shard)


# --- where things stand ---


def _places_at(shards: ShardMap, name: str) -> Iterator[ShardPlace]:
    with shards.connection_to(name) as connection:
        rows = connection.execute(
            "SELECT l.shard, l.lives_here, l.moved_to, l.position,"
            " (SELECT coalesce(max(e.position), 0) FROM ledger_events e WHERE e.shard = l.shard)"
            " FROM shard_log l ORDER BY l.shard"
        ).fetchall()
    return (ShardPlace(row[0], name, *row[1:]) for row in rows)


def _source(shards: ShardMap, shard: int, to: str) -> str:
    """Where the shard comes from: its home, or the home that it was interrupted on leaving. Raises: MoveRefused."""
    places = {name: _place(shards, shard, name) for name in shards.databases}
    homes = [name for name, place in places.items() if place.lives_here]
    if homes:
        return homes[0]
    left = {name: place.moved_to for name, place in places.items() if place.moved_to in places}
    # Each old home names the next, so the last of them is where the shard was going.
    last = next((name for name, going in left.items() if going not in left), None)
    if last is None:
        raise MoveRefused(
            f"shard {shard} lives in none of {', '.join(places)}: is a database missing in the settings?"
        )
    if left[last] != to:
        raise MoveRefused(
            f"shard {shard} is on its way to {left[last]!r}: finish that first, `--to {left[last]}`"
        )
    return last


def _place(shards: ShardMap, shard: int, name: str) -> ShardPlace:
    return next(place for place in _places_at(shards, name) if place.shard == shard)


def _row(connection: Connection, query: str, *values: object) -> TupleRow | None:
    return connection.execute(query.encode(), values).fetchone()


def _only(connection: Connection, query: str, *values: object) -> TupleRow:
    row = _row(connection, query, *values)
    assert row is not None
    return row


@contextmanager
def _connections(
    shards: ShardMap, shard: int, source: str, to: str
) -> Iterator[tuple[Connection, Connection]]:
    """A connection to each end that nobody else moves this shard on, in autocommit. Raises: MoveRefused."""
    with shards.own_connection_to(source, _OPTIONS) as old, shards.own_connection_to(to, _OPTIONS) as new:
        for connection in (old, new):
            connection.autocommit = True
        # By name, so that two moves cannot hold one end each.
        for _, connection in sorted({source: old, to: new}.items()):
            if not _only(
                connection, "SELECT pg_try_advisory_lock(hashtextextended('move shard', %s))", shard
            )[0]:
                raise MoveRefused(f"another process is moving shard {shard}: wait for it, or end it")
        yield old, new


class _Ends(NamedTuple):
    """A shard between its old and its new home."""

    shard: int
    source: str
    to: str
    old: Connection
    new: Connection


class _Moving:
    """One move, or the rest of one."""

    def __init__(self, ends: _Ends, models: Sequence[ReadModel], progress: Progress) -> None:
        self._ends = ends
        self._shard, self._old, self._new = ends.shard, ends.old, ends.new
        self._models = models
        self._progress = progress
        self._frozen_seconds = 0.0

    def run(self) -> Move:
        """The shard lives at its new home."""
        if self._ends.source != self._ends.to:
            if self._is_at_home():
                self._check_ends()
                self._prepare()
                self._copy_behind()
                self._freeze()
            self._arrive()
        self._catch_up_read_models()
        return self._told(done=True)

    def _is_at_home(self) -> bool:
        """Whether the old home still accepts writes; one that was left for a copy that is not whole takes the shard back."""
        lives, position = _only(
            self._old, "SELECT lives_here, position FROM shard_log WHERE shard = %s", self._shard
        )
        if not lives and not self._is_complete(position):
            # Nobody accepts writes of it now and the new home never did, so nothing can have been written meanwhile.
            self._old.execute(
                "UPDATE shard_log SET lives_here = true, moved_to = NULL WHERE shard = %s", (self._shard,)
            )
            return True
        return bool(lives)

    def _is_complete(self, position: int) -> bool:
        found = _row(
            self._new,
            "SELECT complete_position = %s OR l.lives_here FROM shard_log l LEFT JOIN shard_arrival a USING (shard)"
            " WHERE l.shard = %s",
            position,
            self._shard,
        )
        return found is not None and bool(found[0])

    def _check_ends(self) -> None:
        """The two databases can hold the same rows at the same time of day. Raises: MoveRefused."""
        revision = "SELECT version_num FROM alembic_version"
        if _only(self._old, revision) != _only(self._new, revision):
            raise MoveRefused("the databases are at different revisions: run `coffer migrate`")
        apart = abs((_clock(self._old) - _clock(self._new)).total_seconds())
        if apart > CLOCK_DIFFERENCE_SECONDS_MAX:
            raise MoveRefused(f"the clocks of the databases are {apart:.3f} s apart: set them right first")
        # Until this connection ends: what left the log in the middle of a move would be missed in the copy.
        archiver = f"coffer archive {self._shard}"
        if not _only(self._old, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", archiver)[0]:
            raise MoveRefused(f"shard {self._shard} is being archived or restored: wait for it, or end it")
        first = _only(
            self._old, "SELECT coalesce(min(position), 1) FROM ledger_events WHERE shard = %s", self._shard
        )
        gone = _only(self._old, "SELECT EXISTS (SELECT FROM archived_claim WHERE shard = %s)", self._shard)
        if first[0] != 1 or gone[0]:
            raise MoveRefused(f"shard {self._shard} has events in an archive: restore them, then move it")

    # --- behind the backs of its writers ---

    def _prepare(self) -> None:
        """The new home waits for the shard; of an earlier stay there only the log is of use, which never changes."""
        with self._new.transaction():
            lives = _only(
                self._new, "SELECT lives_here FROM shard_log WHERE shard = %s FOR UPDATE", self._shard
            )
            assert not lives[0], f"shard {self._shard} lives in {self._ends.to!r}"
            begun = _row(
                self._new,
                "UPDATE shard_arrival SET complete_position = NULL, source = %s WHERE shard = %s RETURNING shard",
                self._ends.source,
                self._shard,
            )
            if begun is None:
                for table in reversed(self._tables()):
                    self._empty(table)
                self._new.execute(
                    "INSERT INTO shard_arrival (shard, source) VALUES (%s, %s)",
                    (self._shard, self._ends.source),
                )

    def _copy_behind(self) -> None:
        """Log, contexts and read models are copied but for what is written meanwhile."""
        self._check_prefix()
        for _ in range(CATCH_UPS_MAX):
            self._copy_log(self._position())
            self._copy_read_models()
            if self._position() - self._copied() <= REST_EVENTS_MAX:
                break
        count, last = _only(
            self._new,
            "SELECT count(*), coalesce(max(position), 0) FROM ledger_events WHERE shard = %s",
            self._shard,
        )
        if count != last:
            raise MoveFailed(f"{count} events were copied up to position {last}: run `coffer verify` on both")

    def _check_prefix(self) -> None:
        """What the new home holds of the log is its beginning. Raises: MoveFailed."""
        query = "SELECT originator_id, originator_version, hash FROM ledger_events WHERE shard = %s AND position = %s"
        copied = self._copied()
        if _row(self._new, query, self._shard, copied) != _row(self._old, query, self._shard, copied):
            raise MoveFailed(
                f"the event at position {copied} of shard {self._shard} differs between the databases"
            )

    def _position(self) -> int:
        return int(_only(self._old, "SELECT position FROM shard_log WHERE shard = %s", self._shard)[0])

    def _copied(self) -> int:
        query = "SELECT coalesce(max(position), 0) FROM ledger_events WHERE shard = %s"
        return int(_only(self._new, query, self._shard)[0])

    def _copy_log(self, until: int) -> None:
        """Events and contexts up to that position are copied, each portion in a transaction of its own."""
        while (after := self._copied()) < until or self._contexts_copied() < until:
            with self._new.transaction():
                self._copy_portion(after, min(after + PORTION_EVENTS, until))
                self._copy_contexts(until)
            hit("shard.after_portion")
            self._progress(self._told())

    def _copy_portion(self, after: int, upto: int) -> None:
        """Raises: MoveFailed when the log of the old home has a gap there."""
        if upto <= after:
            return
        query = sql.SQL("shard = {} AND position > {} AND position <= {}").format(self._shard, after, upto)
        copied = self._copy(_LOG, query)
        if copied != upto - after:
            raise MoveFailed(
                f"positions {after + 1} to {upto} of shard {self._shard} have {copied} events: run `coffer verify`"
            )

    def _contexts_copied(self) -> int:
        query = "SELECT contexts_position FROM shard_arrival WHERE shard = %s"
        return int(_only(self._new, query, self._shard)[0])

    def _copy_contexts(self, until: int) -> None:
        """A context is stored with the event of its usage, so those of a part of the log are found through its claims."""
        # Whoever erases what a member wrote waits until this portion is there, or was through before it is read.
        self._new.execute("SELECT FROM shard_arrival WHERE shard = %s FOR UPDATE", (self._shard,))
        after = self._contexts_copied()
        upto = min(after + PORTION_EVENTS, until)
        query = sql.SQL(
            "shard = {shard} AND usage_key IN (SELECT usage_key FROM ledger_events"
            " WHERE shard = {shard} AND position > {after} AND position <= {upto} AND usage_key IS NOT NULL)"
        ).format(shard=self._shard, after=after, upto=upto)
        self._copy(_CONTEXTS, query)
        self._new.execute(
            "UPDATE shard_arrival SET contexts_position = %s WHERE shard = %s", (upto, self._shard)
        )

    def _copy_read_models(self) -> None:
        """Rows of read models with the position they stand at; the projectors of the new home go on from there."""
        for model in self._models:
            if _row(
                self._new,
                "SELECT true FROM tracking WHERE shard = %s AND projection = %s AND halted IS NULL",
                self._shard,
                model.name,
            ):
                continue
            try:
                self._copy_read_model(model)
            except errors.UniqueViolation:
                # A projector that did not know where the shard lives was at it; its rows are those of the events that are here.
                continue
            hit("shard.after_read_model")

    def _copy_read_model(self, model: ReadModel) -> None:
        tracked = sql.SQL("shard = {} AND projection = {}").format(self._shard, model.name)
        with self._new.transaction(), self._old.transaction():
            # One instant for rows and position.
            self._old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._new.execute(sql.SQL("DELETE FROM tracking WHERE {}").format(tracked))
            self._empty(model.table)
            self._copy(model.table, self._whole())
            self._copy("tracking", tracked)

    # --- while its writers wait ---

    def _freeze(self) -> None:
        """The new home holds all of the shard, and the old one is left. Raises: MoveFailed, MoveRefused."""
        for attempt in range(FREEZE_ATTEMPTS_MAX):
            began = monotonic()
            try:
                with self._old.transaction():
                    self._hold()
                    hit("shard.in_freeze")
                    self._complete()
                    hit("shard.after_copy")
                    self._old.execute(
                        "UPDATE shard_log SET lives_here = false, moved_to = %s WHERE shard = %s",
                        (self._ends.to, self._shard),
                    )
            except errors.LockNotAvailable:
                sleep(min(0.05 * (attempt + 1), 1.0))
                continue
            self._frozen_seconds = monotonic() - began
            hit("shard.after_leaving")
            return
        raise MoveRefused(f"the writers of shard {self._shard} left no moment to stop them: ask again")

    def _hold(self) -> None:
        """Nobody writes to the shard until this transaction of the old home ends; what was under way is committed."""
        held = _row(
            self._old,
            "SELECT position FROM shard_log WHERE shard = %s AND lives_here FOR UPDATE",
            self._shard,
        )
        if held is None:
            raise MoveRefused(f"shard {self._shard} was moved by another process meanwhile")

    def _complete(self) -> None:
        """Everything is copied and compared, in one transaction of the new home. Raises: MoveFailed."""
        position = self._position()
        with self._new.transaction():
            self._copy_portion(self._copied(), position)
            while self._contexts_copied() < position:
                self._copy_contexts(position)
            for table in reversed(self._small_tables()):
                self._empty(table)
            for table in self._small_tables():
                self._copy(table, self._whole())
                self._compare(table)
            self._copy_other_positions()
            self._match_erased_contexts()
            self._check_heads(position)
            self._new.execute(
                "UPDATE shard_log SET position = %s, moved_to = NULL WHERE shard = %s",
                (position, self._shard),
            )
            self._new.execute(
                "UPDATE shard_arrival SET complete_position = %s WHERE shard = %s", (position, self._shard)
            )

    def _copy_other_positions(self) -> None:
        """How far others than read models have come, such as the relay."""
        others = sql.SQL("shard = {} AND NOT projection = ANY({}) AND projection NOT LIKE '% beside'").format(
            self._shard, [model.name for model in self._models]
        )
        self._new.execute(sql.SQL("DELETE FROM tracking WHERE {}").format(others))
        self._copy("tracking", others)

    def _match_erased_contexts(self) -> None:
        """Of members whose contexts were erased at any time, exactly those are here that the old home has.

        One that was copied before it was erased is gone; one that was written later, and went with the copies, is here again.
        """
        erased = self._old.execute(
            "SELECT DISTINCT team_id, member FROM context_erasure WHERE shard = %s", (self._shard,)
        ).fetchall()
        for team_id, member in erased:
            kept, copied = (
                _keys_of_contexts(each, self._shard, team_id, member) for each in (self._old, self._new)
            )
            query = "DELETE FROM usage_context WHERE shard = %s AND usage_key = ANY(%s)"
            self._new.execute(query, (self._shard, list(copied - kept)))
            if missing := kept - copied:
                which = sql.SQL("shard = {} AND usage_key = ANY({})").format(self._shard, list(missing))
                self._copy(_CONTEXTS, which)

    def _compare(self, table: str) -> None:
        count = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(table), self._whole())
        there, here = (each.execute(count).fetchone() for each in (self._old, self._new))
        if there != here:
            raise MoveFailed(f"{table} of shard {self._shard}: {there} rows became {here}")

    def _check_heads(self, position: int) -> None:
        """Every stream ends with the event whose hash is on its head. Raises: MoveFailed."""
        count, last = self._copied(), position
        astray = _only(
            self._new,
            "SELECT count(*) FROM (SELECT shard, account_id AS stream_id, version, chain_hash FROM account_head"
            " UNION ALL SELECT shard, stream_id, version, chain_hash FROM team_head"
            " UNION ALL SELECT shard, stream_id, version, chain_hash FROM work_head"
            " UNION ALL SELECT shard, stream_id, version, chain_hash FROM issuer_head WHERE version > 0) AS h"
            " LEFT JOIN ledger_events e ON e.shard = h.shard AND e.originator_id = h.stream_id"
            " AND e.originator_version = h.version WHERE h.shard = %s AND e.hash IS DISTINCT FROM h.chain_hash",
            self._shard,
        )
        if count != last or astray[0]:
            raise MoveFailed(
                f"shard {self._shard}: {astray[0]} heads disagree with the copied log, which ends at {count} and not {last}"
            )

    # --- the new home ---

    def _arrive(self) -> None:
        """The new home accepts writes: only once the old one refuses them, and only with all that it had."""
        lives, position = _only(
            self._old, "SELECT lives_here, position FROM shard_log WHERE shard = %s", self._shard
        )
        assert not lives, f"shard {self._shard} still lives in {self._ends.source!r}"
        with self._new.transaction():
            arrived = self._new.execute(
                "UPDATE shard_log l SET lives_here = true FROM shard_arrival a"
                " WHERE l.shard = %s AND a.shard = l.shard AND a.complete_position = %s AND l.position = %s",
                (self._shard, position, position),
            )
            if arrived.rowcount != 1:
                raise MoveFailed(
                    f"shard {self._shard} is not whole at {self._ends.to!r}: ask for the move again"
                )
            self._new.execute("DELETE FROM shard_arrival WHERE shard = %s", (self._shard,))
            self._new.execute("SELECT pg_notify(%s, %s)", (channel_of(self._shard), str(position)))
        hit("shard.after_arriving")

    def _catch_up_read_models(self) -> None:
        """Read models hold all of the log; projectors of the new home may be at it, too."""
        for model in self._models:
            projector = Projector(model)
            while True:
                try:
                    if projector.advance(self._new, self._shard) is None:
                        break
                except Overtaken:
                    continue

    # --- rows ---

    def _tables(self) -> list[str]:
        """Every table with rows of shards, but the log and what belongs to its database; by name."""
        rows = self._old.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attname = 'shard'"
            " AND NOT a.attisdropped ORDER BY c.relname"
        ).fetchall()
        return [
            name
            for (name,) in rows
            if name not in _NOT_COPIED and name != _LOG and not name.endswith("_beside")
        ]

    def _small_tables(self) -> list[str]:
        """What is copied while writers wait: rows that may change."""
        apart = {_CONTEXTS, "tracking", *(model.table for model in self._models)}
        return [table for table in self._tables() if table not in apart]

    def _whole(self) -> sql.Composed:
        return sql.SQL("shard = {}").format(self._shard)

    def _empty(self, table: str) -> None:
        """The new home has no row of the shard in the table."""
        # A statement without rows would wake triggers that guard them.
        some = sql.SQL("SELECT FROM {} WHERE {} LIMIT 1").format(sql.Identifier(table), self._whole())
        if self._new.execute(some).fetchone() is not None:
            self._new.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), self._whole()))

    def _copy(self, table: str, which: sql.Composable) -> int:
        """These rows of the old home are in the new one, byte for byte; returns how many."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns(table)))
        name = sql.Identifier(table)
        out = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT BINARY)").format(
            columns, name, which
        )
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(name, columns)
        with self._old.cursor() as reading, self._new.cursor() as writing:
            with reading.copy(out) as source, writing.copy(into) as target:
                for data in source:
                    target.write(data)
            return writing.rowcount

    def _columns(self, table: str) -> list[str]:
        rows = self._old.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attgenerated = '' ORDER BY attnum",
            (table,),
        ).fetchall()
        return [name for (name,) in rows]

    def _told(self, *, done: bool = False) -> Move:
        ends = self._ends
        return Move(
            ends.shard,
            ends.source,
            ends.to,
            self._copied(),
            self._position(),
            round(self._frozen_seconds * 1_000, 1),
            done,
        )


def _clock(connection: Connection) -> datetime:
    now: datetime = _only(connection, "SELECT clock_timestamp()")[0]
    return now


def _keys_of_contexts(connection: Connection, shard: int, team_id: str, member: str) -> set[UUID]:
    rows = connection.execute(
        "SELECT usage_key FROM usage_context WHERE shard = %s AND team_id = %s AND member = %s",
        (shard, team_id, member),
    ).fetchall()
    return {key for (key,) in rows}


def _forgotten(left: Connection, shard: int) -> int:
    """Everything of the shard is gone from a database in which it does not live, the log a portion at a time."""
    with left.transaction():
        left.execute("SET LOCAL session_replication_role = replica")
        tables = left.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'r'"
            " AND c.relnamespace = 'public'::regnamespace AND a.attname = 'shard' AND c.relname <> ALL(%s)",
            ([_LOG, "shard_log"],),
        ).fetchall()
        for (table,) in tables:
            left.execute(sql.SQL("DELETE FROM {} WHERE shard = %s").format(sql.Identifier(table)), (shard,))
    gone = 0
    while removed := _portion_forgotten(left, shard):
        gone += removed
    return gone


def _portion_forgotten(left: Connection, shard: int) -> int:
    """The newest events first, so that what is left is a beginning of the log at any time."""
    with left.transaction():
        lives = _only(left, "SELECT lives_here FROM shard_log WHERE shard = %s FOR UPDATE", shard)
        assert not lives[0], f"shard {shard} lives here"
        left.execute("SET LOCAL session_replication_role = replica")
        return left.execute(
            "DELETE FROM ledger_events WHERE shard = %s AND position >"
            " (SELECT coalesce(max(position), 0) FROM ledger_events WHERE shard = %s) - %s",
            (shard, shard, PORTION_EVENTS),
        ).rowcount
