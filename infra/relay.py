"""The relay: every event of the ledger goes out to Kafka, in the order of each shard, at least once and none left out."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog
from kafka.errors import KafkaError
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from consumers.batches import PartitionKey
from infra.failpoints import hit
from infra.kafka.broker import describe_partitions
from infra.kafka.ledger_events import LedgerEvent, LedgerPublisher, NotAcknowledged, ledger_record
from infra.postgres.appending import channel_of
from infra.postgres.read_models import GapInLog, StoredEvent, read_events
from infra.postgres.shards import ShardMap
from infra.topics import ALERTS, LEDGER

BATCH_EVENTS_MAX = 2_000
POLL_SECONDS = 1.0
"""How long the relay waits at most before it looks for events that nobody announced."""

RECONNECT_SECONDS_MAX = 5.0
TEAMS_REMEMBERED_MAX = 50_000

# One number for all relays of a database: whoever holds it with a shard sends that shard.
_LOCK = 0x636F_6666

Connection = psycopg.Connection[TupleRow]
_log = structlog.get_logger("relay")


class RelayTopics(NamedTuple):
    """Where events go."""

    ledger: str = LEDGER
    alerts: str = ALERTS


class Relay:
    """Follows all shards of a map and sends what is new until told to stop, each database by a thread of its own.

    Several relays may run: each shard is sent by one of them, and taken over when that one ends. The position of a shard is
    kept by the identity of the ledger's topic, so one that is made anew gets everything from the beginning.
    """

    def __init__(
        self,
        shards: ShardMap,
        bootstrap: str,
        topics: RelayTopics | None = None,
        *,
        poll_seconds: float = POLL_SECONDS,
        batch_events_max: int = BATCH_EVENTS_MAX,
    ) -> None:
        self._stop = threading.Event()
        self._senders = [
            _Sender(
                shards, name, bootstrap, topics or RelayTopics(), self._stop, poll_seconds, batch_events_max
            )
            for name in shards.databases
        ]

    def stop(self) -> None:
        """The relay ends; what it has in hand and the broker has not yet is sent again by the next one."""
        self._stop.set()

    def run(self) -> None:
        """Events are sent until ``stop``; a database or a broker that is away is waited for. Raises: TopicRefused."""
        first, *others = self._senders
        threads = [threading.Thread(target=other.run_in_thread) for other in others]
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
        """Everything in the log now is sent, but for shards that another relay holds; returns how many events."""
        return sum(sender.catch_up() for sender in self._senders)


class _Sender:
    """Sends what is new in the shards of one database, a batch at a time. ``failure`` ended it and should not have."""

    def __init__(
        self,
        shards: ShardMap,
        database: str,
        bootstrap: str,
        topics: RelayTopics,
        stop: threading.Event,
        poll_seconds: float,
        batch_events_max: int,
    ) -> None:
        self._shards = shards
        self._database = database
        self._bootstrap = bootstrap
        self._topics = topics
        self._publisher = LedgerPublisher(bootstrap, *self._topics)
        self._poll_seconds = poll_seconds
        self._batch_events_max = batch_events_max
        self._stop = stop
        self._teams: dict[bytes, str] = {}
        self._owned: set[int] = set()
        self.failure: Exception | None = None

    def run_in_thread(self) -> None:
        """As ``run``; an error is kept, and stops everything."""
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - not swallowed: the relay raises it once all have stopped
            self.failure = error
            self._stop.set()

    def run(self) -> None:
        """Events are sent until told to stop."""
        wait = 0.1
        while not self._stop.is_set():
            try:
                with self._connected() as (connection, bell):
                    wait = 0.1
                    self._follow(connection, bell)
            except (psycopg.OperationalError, psycopg.InterfaceError, KafkaError, NotAcknowledged) as error:
                _log.warning(
                    "relay_waits",
                    database=self._database,
                    error=f"{type(error).__name__}: {error}",
                    wait_seconds=wait,
                )
                self._publisher.close()
                self._stop.wait(wait)
                wait = min(wait * 2, RECONNECT_SECONDS_MAX)
        self._publisher.close()

    def catch_up(self) -> int:
        """As of the relay, in this database."""
        try:
            with self._connected() as (connection, bell):
                return self._send_all(connection, bell)
        finally:
            self._publisher.close()

    def _follow(self, connection: Connection, bell: Connection) -> None:
        while not self._stop.is_set():
            if not self._send_all(connection, bell):
                _wait_for_bell(bell, self._poll_seconds, self._stop)

    def _send_all(self, connection: Connection, bell: Connection) -> int:
        """Batches of every shard that is ours, in turn, until nothing is left; returns how many events were sent."""
        self._take_shards(connection)
        sent = 0
        while not self._stop.is_set():
            behind = self._behind(connection)
            if not behind:
                break
            for shard, after in behind:
                sent += self._send(connection, shard, after)
            # The server keeps for us the announcements that we do not read, and there may be no pause for hours.
            for _ in bell.notifies(timeout=0):
                pass
        return sent

    def _send(self, connection: Connection, shard: int, after: int) -> int:
        """The next events of the shard are with the broker, and marked; returns how many."""
        began = time.monotonic()
        with connection.cursor() as cursor:
            try:
                events = read_events(cursor, shard, after, None, self._batch_events_max)
            except GapInLog as gap:
                self._halt(cursor, shard, after, str(gap))
                return 0
            teams = self._teams_of(cursor, shard, events)
        records = [
            ledger_record(
                LedgerEvent(
                    self._installation,
                    shard,
                    each.position,
                    teams[each.stream],
                    each.version,
                    each.topic,
                    each.state,
                )
            )
            for each in events
        ]
        if not self._publisher.send(records, self._stop.is_set):
            return 0
        hit("relay.before_mark")
        self._mark(connection, shard, after, events[-1].position)
        _log.info(
            "events_relayed",
            shard=shard,
            position=events[-1].position,
            events=len(events),
            alerts=sum(record.is_alert for record in records),
            took_ms=round((time.monotonic() - began) * 1_000, 1),
        )
        return len(events)

    # --- what PostgreSQL keeps ---

    def _behind(self, connection: Connection) -> list[tuple[int, int]]:
        """Our shards whose log is longer than what was sent, and how far that was."""
        return connection.execute(
            "SELECT l.shard, coalesce(t.position, 0) FROM shard_log l"
            " LEFT JOIN tracking t ON t.shard = l.shard AND t.projection = %s"
            " WHERE l.shard = ANY(%s) AND l.lives_here AND l.position > coalesce(t.position, 0) AND t.halted IS NULL"
            " ORDER BY l.shard",
            (self._tracked_as, sorted(self._owned)),
        ).fetchall()

    def _mark(self, connection: Connection, shard: int, after: int, position: int) -> None:
        # Compare-and-set: whoever was held up while another relay took over moves nothing back.
        connection.execute(
            "INSERT INTO tracking AS t (shard, projection, position) VALUES (%s, %s, %s)"
            " ON CONFLICT (shard, projection) DO UPDATE SET position = excluded.position WHERE t.position = %s",
            (shard, self._tracked_as, position, after),
        )

    def _halt(self, cursor: Cursor[TupleRow], shard: int, after: int, why: str) -> None:
        _log.error("relay_halted", shard=shard, position=after + 1, why=why)
        cursor.execute(
            "INSERT INTO tracking AS t (shard, projection, position, halted_position, halted)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (shard, projection)"
            " DO UPDATE SET halted_position = excluded.halted_position, halted = excluded.halted",
            (shard, self._tracked_as, after, after + 1, why),
        )

    def _take_shards(self, connection: Connection) -> None:
        """Shards that no other relay holds are ours, for as long as this connection lives."""
        free = [shard for shard in range(self._shards.count) if shard not in self._owned]
        if not free:
            return
        rows = connection.execute(
            "SELECT shard, pg_try_advisory_lock(%s, shard) FROM unnest(%s::integer[]) AS shard", (_LOCK, free)
        ).fetchall()
        self._owned.update(shard for shard, is_ours in rows if is_ours)

    def _teams_of(
        self, cursor: Cursor[TupleRow], shard: int, events: Sequence[StoredEvent]
    ) -> dict[bytes, str]:
        """Whose each stream is: a team's account, paperwork or work, or an issuer's details or numbers."""
        wanted = {event.stream for event in events}
        unknown = [stream for stream in wanted if stream not in self._teams]
        if unknown:
            if len(self._teams) + len(unknown) > TEAMS_REMEMBERED_MAX:
                self._teams.clear()
                unknown = list(wanted)
            cursor.execute(
                "SELECT uuid_send(account_id), team_id FROM account_head"
                " WHERE shard = %(shard)s AND account_id = ANY(%(streams)s)"
                " UNION ALL SELECT uuid_send(stream_id), team_id FROM team_head"
                " WHERE shard = %(shard)s AND stream_id = ANY(%(streams)s)"
                " UNION ALL SELECT uuid_send(stream_id), team_id FROM work_head"
                " WHERE shard = %(shard)s AND stream_id = ANY(%(streams)s)"
                " UNION ALL SELECT uuid_send(stream_id), 'issuer:' || issuer_id FROM issuer_head"
                " WHERE shard = %(shard)s AND stream_id = ANY(%(streams)s)",
                {"shard": shard, "streams": [UUID(bytes=stream) for stream in unknown]},
                binary=True,
            )
            self._teams.update(cursor.fetchall())
        return self._teams

    @contextmanager
    def _connected(self) -> Iterator[tuple[Connection, Connection]]:
        """One connection to work and hold our shards on, one to listen on, both in autocommit."""
        ledger = describe_partitions(self._bootstrap, [self._topics.ledger, self._topics.alerts])[0]
        with (
            self._shards.own_connection_to(self._database) as connection,
            self._shards.own_connection_to(self._database) as bell,
        ):
            connection.autocommit = bell.autocommit = True
            self._owned.clear()
            self._tracked_as = _tracked_as(ledger)
            self._installation = _installation(connection)
            connection.execute(
                "UPDATE tracking SET halted = NULL, halted_position = NULL"
                " WHERE projection = %s AND halted IS NOT NULL",
                (self._tracked_as,),
            )
            for shard in range(self._shards.count):
                bell.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel_of(shard))))
            yield connection, bell


def _tracked_as(ledger: PartitionKey) -> str:
    return f"relay to {ledger.cluster_id}/{ledger.topic_id}"


def _installation(connection: Connection) -> str:
    """What tells this ledger from one installed before or beside it: the instant of its installation."""
    row = connection.execute("SELECT installed_at FROM installation").fetchone()
    assert row is not None, "the database is not installed: run `coffer migrate`"
    return f"{int(row[0].timestamp() * 1_000_000):x}"


def _wait_for_bell(bell: Connection, seconds: float, stop: threading.Event) -> None:
    """Returns when new events were announced, when the time is up, or when asked to stop."""
    until = time.monotonic() + seconds
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        if any(True for _ in bell.notifies(timeout=min(left, 0.25), stop_after=1)):
            return


def run(shards: ShardMap, bootstrap: str) -> None:
    """The relay runs in this process until SIGTERM or SIGINT."""
    relay = Relay(shards, bootstrap)

    def stop(_number: int, _frame: FrameType | None) -> None:
        relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _log.info("relay_started", shards=shards.count)
    relay.run()
    _log.info("relay_stopped")
