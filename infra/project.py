"""The projector process: every read model follows every shard, woken by the log itself and looking by itself besides."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from types import FrameType

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

from infra.postgres.appending import channel_of
from infra.postgres.read_models import Batch, Moved, Projector, ReadModel, StatementModel
from infra.postgres.shards import ShardMap

POLL_SECONDS = 1.0
"""How long the projector waits at most before it looks for events that nobody announced."""

RECONNECT_SECONDS_MAX = 5.0

Connection = psycopg.Connection[TupleRow]
log = structlog.get_logger("project")


def read_models() -> list[ReadModel]:
    """Every read model there is."""
    return [StatementModel()]


class ProjectorLoop:
    """Follows all shards of a map with all read models, one batch at a time, until told to stop.

    Several loops may run at once: each batch is taken by one of them.
    """

    def __init__(
        self,
        shards: ShardMap,
        models: Sequence[ReadModel] | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._shards = shards
        self._projectors = [Projector(model) for model in (read_models() if models is None else models)]
        self._poll_seconds = poll_seconds
        self._caught_up = caught_up
        self._stop = Event()

    def stop(self) -> None:
        """The loop ends after the batch in hand."""
        self._stop.set()

    def run(self) -> None:
        """Read models follow the log until ``stop``; a database that is away is waited for.

        Projections that were halted are tried once more at the start, so a corrected program heals them.
        """
        wait = 0.1
        while not self._stop.is_set():
            try:
                with self._connected() as (connection, bell):
                    self._release(connection)
                    wait = 0.1
                    self._follow(connection, bell)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("projector_lost_database", error=str(error), wait_seconds=wait)
                self._stop.wait(wait)
                wait = min(wait * 2, RECONNECT_SECONDS_MAX)

    def catch_up(self) -> int:
        """Everything in the log now is in the read models, except where one is halted; returns how many events were taken."""
        with self._shards.own_connection_for(0) as connection:
            connection.autocommit = True
            return sum(batch.events for batch in self._take_all(connection))

    def _follow(self, connection: Connection, bell: Connection) -> None:
        while not self._stop.is_set():
            if not any(self._take_all(connection)):
                self._caught_up()
                _wait_for_bell(bell, self._poll_seconds, self._stop)

    def _take_all(self, connection: Connection) -> Iterator[Batch]:
        """Batches of every read model on every shard in turn, until nothing is left to take."""
        shards = range(self._shards.count)
        for projector in self._projectors:
            taken = True
            while taken:
                taken = False
                for shard in projector.behind(connection, shards):
                    if self._stop.is_set():
                        return
                    for batch in _take(projector, connection, shard):
                        taken = True
                        yield batch

    def _release(self, connection: Connection) -> None:
        for projector in self._projectors:
            released = projector.release(connection)
            if released:
                log.info("projection_tried_again", projection=projector.model.name, shards=released)

    @contextmanager
    def _connected(self) -> Iterator[tuple[Connection, Connection]]:
        """One connection to work on and one to listen on, both in autocommit between transactions."""
        with self._shards.own_connection_for(0) as connection, self._shards.own_connection_for(0) as bell:
            connection.autocommit = bell.autocommit = True
            for shard in range(self._shards.count):
                bell.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel_of(shard))))
            yield connection, bell


def _take(projector: Projector, connection: Connection, shard: int) -> Iterator[Batch]:
    """The next batch of the shard, if it is ours; a line says what was done."""
    began = time.monotonic()
    try:
        batch = projector.advance(connection, shard)
    except Moved:
        # Another projector took this batch; whoever looks next sees where it left off.
        return
    if batch is None:
        return
    tell = log.info if batch.halted is None else log.error
    tell(
        "events_projected" if batch.halted is None else "projection_halted",
        projection=projector.target.projection,
        shard=shard,
        position=batch.position,
        events=batch.events,
        rows=batch.rows,
        took_ms=round((time.monotonic() - began) * 1000, 1),
        **({} if batch.halted is None else {"halted_position": batch.position + 1, "why": batch.halted}),
    )
    yield batch


def _wait_for_bell(bell: Connection, seconds: float, stop: Event) -> None:
    """Returns when new events were announced, when the time is up, or when asked to stop."""
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        if any(True for _ in bell.notifies(timeout=min(left, 0.25), stop_after=1)):
            return


def run(shards: ShardMap) -> None:
    """The projector runs in this process until SIGTERM or SIGINT, then ends after the batch in hand."""
    loop = ProjectorLoop(shards)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("projector_started", shards=shards.count)
    loop.run()
    log.info("projector_stopped")
