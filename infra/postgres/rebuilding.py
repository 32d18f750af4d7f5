"""A read model is built anew beside the live one and takes its place in one step; readers never stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import msgspec
import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

from infra.postgres.read_models import BATCH_EVENTS_MAX, Batch, Moved, Projector, ReadModel, Target
from infra.postgres.shards import ShardMap

SWAP_ATTEMPTS_MAX = 50
SWAP_LOCK_MILLISECONDS = 200
"""How long a swap waits for readers in the middle of a query; while it waits, new ones wait behind it."""

SWAP_REST_EVENTS_MAX = 5_000
"""How much may be left to catch up while the live projector is kept waiting for the swap."""

Connection = psycopg.Connection[TupleRow]
Progress = Callable[["Rebuild"], None]
log = structlog.get_logger("rebuild")


class Rebuild(msgspec.Struct, frozen=True):
    """How far a rebuild has come: events taken of those in the log, and whether an earlier, interrupted one goes on."""

    projection: str
    events: int
    events_in_log: int
    resumed: bool
    swapped: bool = False


class RebuildRunning(Exception):
    """Another process rebuilds this read model: one of them is enough."""


class RebuildHalted(Exception):
    """The rebuild met an event that the projection cannot take; the live read model is as it was."""


class SwapPostponed(Exception):
    """Readers or a projector kept the swap from happening in time; what was built stays, and the next rebuild goes on with it."""


def rebuild(
    shards: ShardMap,
    model: ReadModel,
    *,
    progress: Progress = lambda _: None,
    batch_events_max: int = BATCH_EVENTS_MAX,
) -> Rebuild:
    """The read model's table holds exactly what its events say, made from position 1; it was readable all the while.

    Each database has a table of its own, rebuilt one after the other. What an interrupted rebuild left is taken further, unless
    it was made for rows of another shape.
    Raises: RebuildRunning, RebuildHalted, SwapPostponed; psycopg.OperationalError.
    """
    every = [_rebuild_at(shards, name, model, progress, batch_events_max) for name in shards.databases]
    return Rebuild(
        model.name,
        sum(each.events for each in every),
        sum(each.events_in_log for each in every),
        any(each.resumed for each in every),
        swapped=True,
    )


def _rebuild_at(
    shards: ShardMap, database: str, model: ReadModel, progress: Progress, batch_events_max: int
) -> Rebuild:
    with shards.own_connection_to(database) as connection:
        connection.autocommit = True
        with _only_one(connection, model):
            beside = _Beside(shards, model, connection)
            resumed = beside.prepare()
            told = beside.told(resumed)
            for _ in beside.build(batch_events_max):
                told = beside.told(resumed)
                progress(told)
            beside.swap()
            told = msgspec.structs.replace(told, events=told.events_in_log, swapped=True)
            log.info("read_model_rebuilt", **msgspec.structs.asdict(told))
            return told


@contextmanager
def _only_one(connection: Connection, model: ReadModel) -> Iterator[None]:
    """No other process rebuilds this read model; the lock ends with the connection at the latest."""
    name = f"rebuild {model.name}"
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
    assert row is not None
    if not row[0]:
        raise RebuildRunning(f"another process rebuilds {model.name}: wait for it, or end it")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


class _Beside:
    """The table beside the live one, its position on every shard, and the step by which it takes the live one's place."""

    def __init__(self, shards: ShardMap, model: ReadModel, connection: Connection) -> None:
        self._shards = range(shards.count)
        self._model = model
        self._connection = connection
        self._target = Target(f"{model.name} shape {model.shape} beside", f"{model.table}_beside")
        self._live = sql.Identifier(model.table)
        self._beside = sql.Identifier(self._target.table)
        self._projector = Projector(model, self._target)

    def prepare(self) -> bool:
        """The table beside and its positions exist; whether they come from an interrupted rebuild."""
        with self._connection.transaction():
            if self._is_begun():
                self._connection.execute(
                    "UPDATE tracking SET halted = NULL, halted_position = NULL WHERE projection = %s",
                    (self._target.projection,),
                )
                return True
            # What a rebuild for rows of another shape left is of no use.
            self._connection.execute(
                "DELETE FROM tracking WHERE projection LIKE %s", (f"{self._model.name} shape % beside",)
            )
            self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._beside))
            self._connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(self._beside, self._live)
            )
            self._connection.execute(
                "INSERT INTO tracking (shard, projection, position) SELECT shard, %s, 0 FROM shard_log",
                (self._target.projection,),
            )
        return False

    def _is_begun(self) -> bool:
        row = self._connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL AND EXISTS (SELECT FROM tracking WHERE projection = %s)",
            (self._target.table, self._target.projection),
        ).fetchone()
        return row is not None and bool(row[0])

    def build(self, batch_events_max: int) -> Iterator[Batch]:
        """Batches, until everything in the log is in the table beside. Raises: RebuildHalted."""
        while behind := self._projector.behind(self._connection, self._shards):
            taken = False
            for shard in behind:
                batch = self._advance(self._connection, shard, batch_events_max)
                if batch is not None:
                    taken = True
                    yield batch
            if not taken:
                return

    def _advance(self, connection: Connection, shard: int, limit: int) -> Batch | None:
        batch = self._projector.advance(connection, shard, limit=limit)
        if batch is not None and batch.halted is not None:
            raise RebuildHalted(f"shard {shard}, position {batch.position + 1}: {batch.halted}")
        return batch

    def told(self, resumed: bool) -> Rebuild:
        """How far the table beside has come."""
        row = self._connection.execute(
            "SELECT (SELECT coalesce(sum(t.position), 0)::bigint FROM tracking t JOIN shard_log l USING (shard)"
            " WHERE l.lives_here AND t.projection = %s),"
            " (SELECT coalesce(sum(position), 0)::bigint FROM shard_log WHERE lives_here)",
            (self._target.projection,),
        ).fetchone()
        assert row is not None
        return Rebuild(self._model.name, row[0], row[1], resumed)

    def swap(self) -> None:
        """The table beside is the live one, at least as far as the live one had come.

        Raises: SwapPostponed when readers or a projector did not leave room for it.
        """
        for attempt in range(SWAP_ATTEMPTS_MAX):
            try:
                for _ in self.build(BATCH_EVENTS_MAX):
                    pass
                if self._swapped():
                    return
            except (Moved, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                sleep(min(0.05 * (attempt + 1), 0.5))
        raise SwapPostponed(
            f"the swap of {self._model.table} found no moment without long readers: rebuild again"
        )

    def _swapped(self) -> bool:
        """One try: live projectors wait at their position, the rest is caught up, the tables change names.

        Locks are taken in the order in which a projector takes them: its position, then the table.
        """
        with self._connection.transaction():
            self._connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", (f"{SWAP_LOCK_MILLISECONDS}ms",)
            )
            self._connection.execute(
                "INSERT INTO tracking (shard, projection, position) SELECT shard, %s, 0 FROM shard_log"
                " ON CONFLICT DO NOTHING",
                (self._model.name,),
            )
            rest = self._connection.execute(
                "SELECT l.shard, l.position, b.position FROM tracking l JOIN tracking b ON b.shard = l.shard"
                " JOIN shard_log h ON h.shard = l.shard AND h.lives_here"
                " WHERE l.projection = %s AND b.projection = %s ORDER BY l.shard FOR UPDATE OF l",
                (self._model.name, self._target.projection),
            ).fetchall()
            if sum(max(0, live - beside) for _, live, beside in rest) > SWAP_REST_EVENTS_MAX:
                return False
            for shard, live, beside in rest:
                if live > beside:
                    self._catch_up(shard, live)
            self._exchange()
        return True

    def _catch_up(self, shard: int, live: int) -> None:
        while batch := self._advance_within(shard, live):
            if batch.position >= live:
                return

    def _advance_within(self, shard: int, live: int) -> Batch | None:
        batch = self._projector.advance(self._connection, shard, until=live)
        if batch is not None and batch.halted is not None:
            raise RebuildHalted(f"shard {shard}, position {batch.position + 1}: {batch.halted}")
        return batch

    def _exchange(self) -> None:
        name, beside = self._model.name, self._target.projection
        self._connection.execute(
            "UPDATE tracking l SET position = b.position, halted = NULL, halted_position = NULL FROM tracking b"
            " WHERE l.shard = b.shard AND l.projection = %s AND b.projection = %s",
            (name, beside),
        )
        self._connection.execute("DELETE FROM tracking WHERE projection = %s", (beside,))
        self._connection.execute(sql.SQL("DROP TABLE {}").format(self._live))
        self._connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(self._beside, self._live))
