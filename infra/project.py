"""The projector process: every read model follows every shard, woken by the log itself and looking by itself besides."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow

from infra.postgres.appending import channel_of
from infra.postgres.invoice_model import InvoiceModel
from infra.postgres.read_models import Batch, LogReader, Projector, ReadModel, StatementModel
from infra.postgres.shards import ShardMap
from infra.postgres.spending_model import SpendingModel

POLL_SECONDS = 1.0
"""How long the projector waits at most before it looks for events that nobody announced."""

PACE_SECONDS = 0.2
"""While events keep coming, rounds begin this far apart: the first event is shown at once, those right behind it together."""

PACED_EVENTS_MAX = 4_000
"""After a round of at least so many events for each read model there is a backlog, and no time to lose."""

RECONNECT_SECONDS_MAX = 5.0

Connection = psycopg.Connection[TupleRow]
log = structlog.get_logger("project")


def read_models() -> list[ReadModel]:
    """Every read model there is."""
    return [StatementModel(), InvoiceModel(), SpendingModel()]


class ProjectorLoop:
    """Follows all shards of a map with all read models until told to stop, each database by a thread of its own.

    Several loops may run at once: a shard is in the hands of one of them at a time.
    """

    def __init__(
        self,
        shards: ShardMap,
        models: Callable[[], Sequence[ReadModel]] = read_models,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._stop = Event()
        self._followers = [
            _Follower(shards, name, models(), self._stop, poll_seconds) for name in shards.databases
        ]

    def stop(self) -> None:
        """The loop ends after the batch in hand."""
        self._stop.set()

    def run(self) -> None:
        """Read models follow the log until ``stop``; a database that is away is waited for while the others go on.

        Projections that were halted are tried once more at the start, so a corrected program heals them.
        """
        first, *others = self._followers
        threads = [Thread(target=other.run_in_thread) for other in others]
        for thread in threads:
            thread.start()
        try:
            first.run()
        finally:
            # Whatever ended the first, nobody else would tell the others.
            self._stop.set()
            for thread in threads:
                thread.join()
        for other in others:
            if other.failure is not None:
                raise other.failure

    def catch_up(self) -> int:
        """Everything in the log now is in the read models, except where one is halted; returns how many events were taken."""
        return sum(follower.catch_up() for follower in self._followers)


class _Follower:
    """Follows the shards that live in one database. ``failure`` is what ended it, if it should not have ended."""

    def __init__(
        self, shards: ShardMap, database: str, models: Sequence[ReadModel], stop: Event, poll_seconds: float
    ) -> None:
        self._shards = shards
        self._database = database
        self._reader = LogReader()
        self._projectors = [Projector(model, reader=self._reader) for model in models]
        self._stop = stop
        self._poll_seconds = poll_seconds
        self.failure: Exception | None = None

    def run_in_thread(self) -> None:
        """As ``run``; an error is kept, and stops everything."""
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - not swallowed: the loop raises it once all have stopped
            self.failure = error
            self._stop.set()

    def run(self) -> None:
        """The read models follow until told to stop."""
        wait = 0.1
        while not self._stop.is_set():
            try:
                with self._connected() as (connection, bell):
                    self._release(connection)
                    wait = 0.1
                    self._follow(connection, bell)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning(
                    "projector_lost_database", database=self._database, error=str(error), wait_seconds=wait
                )
                self._stop.wait(wait)
                wait = min(wait * 2, RECONNECT_SECONDS_MAX)

    def catch_up(self) -> int:
        """Everything in the log now is taken, where no projection is halted; returns how many events."""
        taken = 0
        with self._connection() as connection:
            connection.autocommit = True
            while events := self._round(connection):
                taken += events
        return taken

    def _follow(self, connection: Connection, bell: Connection) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            events = self._round(connection)
            if not events:
                _listen(bell, self._poll_seconds, self._stop, until_heard=True)
            elif events < PACED_EVENTS_MAX * len(self._projectors):
                # A round costs the same for one event as for hundreds.
                _listen(bell, began + PACE_SECONDS - time.monotonic(), self._stop)

    def _round(self, connection: Connection) -> int:
        """What is new is taken into every read model, up to a bound; returns how many events, over all read models."""
        shards = range(self._shards.count)
        self._reader.forget()
        return sum(
            batch.events
            for projector in self._projectors
            if not self._stop.is_set() and projector.behind(connection, shards)
            for batch in _take(projector, connection, shards)
        )

    def _release(self, connection: Connection) -> None:
        for projector in self._projectors:
            released = projector.release(connection)
            if released:
                log.info("projection_tried_again", projection=projector.model.name, shards=released)

    def _connection(self) -> Connection:
        return self._shards.own_connection_to(self._database)

    @contextmanager
    def _connected(self) -> Iterator[tuple[Connection, Connection]]:
        """One connection to work on and one to listen on, both in autocommit between transactions."""
        with self._connection() as connection, self._connection() as bell:
            connection.autocommit = bell.autocommit = True
            for shard in range(self._shards.count):
                bell.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel_of(shard))))
            yield connection, bell


def _take(projector: Projector, connection: Connection, shards: Sequence[int]) -> list[Batch]:
    """The next events of the shards are taken; a line says what was done."""
    began = time.monotonic()
    batches = projector.take(connection, shards)
    for batch in batches:
        if batch.halted is not None:
            log.error(
                "projection_halted",
                projection=projector.target.projection,
                shard=batch.shard,
                halted_position=batch.position + 1,
                why=batch.halted,
            )
    if batches:
        log.info(
            "events_projected",
            projection=projector.target.projection,
            positions={batch.shard: batch.position for batch in batches},
            events=sum(batch.events for batch in batches),
            rows=sum(batch.rows for batch in batches),
            took_ms=round((time.monotonic() - began) * 1000, 1),
        )
    return batches


def _listen(bell: Connection, seconds: float, stop: Event, *, until_heard: bool = False) -> None:
    """Returns when the time is up, when asked to stop, or, if it is waited for, when new events were announced.

    What was announced is taken off the connection in any case: the server keeps for us what we do not read.
    """
    until = time.monotonic() + seconds
    while not stop.is_set():
        left = until - time.monotonic()
        heard = list(bell.notifies(timeout=max(0.0, min(left, 0.25)), stop_after=1 if until_heard else None))
        if left <= 0 or (heard and until_heard):
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
