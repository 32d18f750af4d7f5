"""The worker: usage and payments go from Kafka into the ledger, batch by batch, until it is told to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import NamedTuple

import msgspec
import psycopg
import structlog
from kafka.errors import KafkaError

from consumers.batches import Fenced, PartitionKey, UsageBatch
from consumers.settling import DECISIONS_MAX, Decide, PartitionRead, Progress, decide_and_write
from consumers.streams import decider_of
from domain.catalogue import Catalogue
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from infra import stream_metrics as metrics
from infra.batch_pace import BatchPace
from infra.failpoints import hit
from infra.kafka.broker import describe_partitions
from infra.kafka.sink import DeadLetterPublisher
from infra.kafka.source import (
    KafkaSource,
    PartitionBroken,
    ReadAgain,
    ReadLimits,
    SourceAway,
    TopicRecreated,
    read_again,
)
from infra.postgres.application import CatalogueApplication
from infra.postgres.batch_stores import AnyTransaction, BatchStores
from infra.postgres.batch_writer import EarlierBatchLost
from infra.postgres.connections import Timeouts
from infra.postgres.dead_letters import DeadLetters
from infra.postgres.frozen import SILENT_MILLISECONDS_MAX, WORKER, end_frozen_workers
from infra.postgres.shards import ShardMap
from infra.postgres.stream_state import Outcomes, StreamState
from infra.settings import Settings
from infra.topics import PAYMENTS, USAGE

GROUP = "coffer-consume"
CRASHES_MAX = 3
"""A record on which a worker died this often stops its partition."""

POLL_MILLISECONDS = 200
AWAY_SECONDS_MAX = 5.0
CLOCK_SECONDS = 10.0
HOLES_SECONDS = 5.0
LETTERS_SECONDS = 5.0
LAG_SECONDS = 5.0
STUCK_SECONDS = 60.0
HELD_BACK_SECONDS = 60.0

_log = structlog.get_logger()


class ClockOff(RuntimeError):
    """This machine's clock and the database's differ too much for the worker to go on."""


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker reads: in the group, or ``alone`` with every partition (or only ``partitions``).

    One process reads all its topics; a batch is of one topic, settled by that topic's rules. ``until_drained`` ends it
    once everything was read that was there.
    """

    topics: tuple[str, ...] = (USAGE, PAYMENTS)
    group_id: str = GROUP
    alone: bool = False
    partitions: tuple[int, ...] | None = None
    until_drained: bool = False
    session_timeout_milliseconds: int | None = None


def run_worker(
    settings: Settings, options: WorkerOptions | None = None, stop: threading.Event | None = None
) -> Outcomes:
    """The stream was consumed until SIGTERM, SIGINT, ``stop``, or until it was drained; returns this worker's own outcomes.

    The batch in hand is finished first. ``settings`` name both addresses.
    Raises: TopicRefused, ClockOff; any other exception is a bug and ends the process, nothing skipped.
    """
    stop = stop or threading.Event()
    with _signals(stop):
        worker = StreamWorker(settings, options or WorkerOptions(), stop)
        try:
            worker.run()
        finally:
            worker.close()
    return worker.outcomes


class _signals:  # noqa: N801 - reads as a verb where it is used
    """SIGTERM and SIGINT set the event while the block runs; elsewhere than in the main thread they are not ours."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT):
                self._before[each] = signal.signal(each, self._ask)

    def __exit__(self, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)  # type: ignore[arg-type]

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._stop.set()


class _Ledger:
    """Everything the worker asks of PostgreSQL, opened and closed together."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        timeouts = Timeouts.of(settings)
        idle = min(timeouts.idle_in_transaction_milliseconds, SILENT_MILLISECONDS_MAX)
        self.shards = ShardMap(
            database_url,
            others=settings.other_databases,
            timeouts=timeouts._replace(idle_in_transaction_milliseconds=idle),
            application_name=WORKER,
            connections_max=settings.database_connections_max,
        )
        self.store = BatchStores(self.shards)
        self.state = StreamState(self.shards)
        self.letters = DeadLetters(self.shards)
        self._application = CatalogueApplication(self.shards)
        self._catalogue = Catalogue()
        self._read_at = -1

    def catalogue(self) -> Catalogue:
        """The catalogue as it stands now; folded again only when it has changed."""
        with self.shards.first_connection() as connection:
            row = connection.execute(
                "SELECT coalesce(max(notification_id), 0) FROM catalogue_events"
            ).fetchone()
        assert row is not None
        if row[0] != self._read_at:
            self._catalogue, self._read_at = self._application.catalogue(), row[0]
        return self._catalogue

    def close(self) -> None:
        self.store.close()
        self._application.close()
        self.shards.close()


class _Sent(NamedTuple):
    """A batch whose COMMIT was sent: it is settled once that is answered."""

    reads: list[PartitionRead]
    batch: UsageBatch
    began: float


class StreamWorker:
    """One process's part of the stream. Not for use by several threads."""

    def __init__(self, settings: Settings, options: WorkerOptions, stop: threading.Event) -> None:
        assert settings.database_url is not None, "the worker needs the address of the database"
        assert settings.kafka_bootstrap is not None, "the worker needs the address of Kafka"
        self._settings = settings
        self._options = options
        self._stop = stop
        self._database_url, self._bootstrap = settings.database_url, settings.kafka_bootstrap
        self._ledger_open: _Ledger | None = None
        self._source_open: KafkaSource | None = None
        self._publisher_open: DeadLetterPublisher | None = None
        self._progress = Progress()
        self._untried: set[PartitionKey] = set()
        self._begun: dict[PartitionKey, int] = {}
        self._next: dict[str, float] = {}
        self._moved_at: dict[PartitionKey, tuple[int, float]] = {}
        self._held_back_since: dict[PartitionKey, float] = {}
        self._letters_waiting = True
        self._waits_for_others = False
        self._sent: _Sent | None = None
        self._pace = BatchPace(settings.batch_records_max, settings.batch_hold_milliseconds)
        self._drained = False
        self.outcomes: Outcomes = {}

    # --- the loop ---

    def run(self) -> None:
        """Reads until told to stop, or drained. A server that is away is waited for, longer each time."""
        failures = 0
        while self._sent or not (self._stop.is_set() or self._drained):
            try:
                self._step()
            except (Busy, OutcomeUnknown, psycopg.OperationalError, psycopg.InterfaceError) as error:
                failures += 1
                self._away("ledger_away", error, failures)
                self._waits_for_others = isinstance(error, Busy)
                self._close_ledger()
                self._forget()
            except (SourceAway, KafkaError) as error:
                failures += 1
                self._away("broker_away", error, failures)
                self._close_source()
            else:
                failures = self._back(failures)
        _log.info("worker_stopped", drained=self._drained, outcomes=self.outcomes)

    def close(self) -> None:
        """No connection is open; the group's other workers have our partitions at once."""
        self._close_source()
        publisher, self._publisher_open = self._publisher_open, None
        if publisher is not None:
            publisher.close()
        self._close_ledger()

    def _step(self) -> None:
        if self._stop.is_set():
            self._confirm()
            return
        ledger = self._ledger
        if self._waits_for_others:
            # One of them may have frozen, and ours are the records that it has not settled.
            end_frozen_workers(ledger.shards, ledger.shards.databases)
            self._waits_for_others = False
        self._check_clock(ledger)
        source = self._source
        try:
            self._take_up(ledger, source)
            # While the server commits the last batch, the next one is decided if it is here already; nobody waits for it.
            reads = source.poll(0 if self._sent else POLL_MILLISECONDS)
        except PartitionBroken as broken:
            self._confirm()
            self._halt(broken.partition, broken.why)
            # What the client had in hand of other partitions is read again from where the ledger stands.
            self._forget()
            return
        except TopicRecreated as recreated:
            _log.error("topic_recreated", error=str(recreated))
            self._close_source()
            return
        if reads:
            hit("stream.after_poll")
        for part in self._parts(reads):
            self._settle(part)
        if not reads:
            self._confirm()
        self._look_after(ledger, source, idle=not reads)

    def _away(self, what: str, error: Exception, failures: int) -> None:
        wait = min(AWAY_SECONDS_MAX, 0.1 * 2**failures)
        _log.warning(what, error=f"{type(error).__name__}: {error}", failures=failures, wait_seconds=wait)
        self._stop.wait(wait)

    def _back(self, failures: int) -> int:
        if failures:
            _log.info("worker_continues", failures=failures)
        return 0

    # --- servers ---

    @property
    def _ledger(self) -> _Ledger:
        if self._ledger_open is None:
            self._ledger_open = _Ledger(self._settings, self._database_url)
        return self._ledger_open

    @property
    def _source(self) -> KafkaSource:
        if self._source_open is None:
            known = self._known()
            alone = self._options.alone or self._options.until_drained
            source = KafkaSource(
                self._bootstrap,
                known,
                group_id=self._options.group_id,
                fixed=known if alone or self._options.partitions is not None else None,
                limits=ReadLimits(
                    self._settings.batch_records_max,
                    self._settings.batch_bytes_max,
                    self._settings.batch_wait_milliseconds,
                ),
                session_timeout_milliseconds=self._options.session_timeout_milliseconds,
            )
            source.open()
            self._source_open = source
            _log.info("worker_reads", topics=self._options.topics, partitions=len(known), alone=alone)
        return self._source_open

    def _known(self) -> list[PartitionKey]:
        known = describe_partitions(self._bootstrap, list(self._options.topics))
        wanted = self._options.partitions
        return known if wanted is None else [key for key in known if key.partition in wanted]

    @property
    def _publisher(self) -> DeadLetterPublisher:
        if self._publisher_open is None:
            self._publisher_open = DeadLetterPublisher(
                self._bootstrap, self._ledger.letters, self._options.group_id
            )
        return self._publisher_open

    def _close_ledger(self) -> None:
        self._sent = None
        ledger, self._ledger_open = self._ledger_open, None
        publisher, self._publisher_open = self._publisher_open, None
        if publisher is not None:
            publisher.close()
        if ledger is not None:
            ledger.close()

    def _close_source(self) -> None:
        source, self._source_open = self._source_open, None
        self._untried.clear()
        if source is not None:
            source.close()

    def _forget(self) -> None:
        """Positions are taken up again from the ledger before anything more is read."""
        if self._source_open is not None:
            self._source_open.forget_positions()

    def _check_clock(self, ledger: _Ledger) -> None:
        if not self._due("clock", CLOCK_SECONDS):
            return
        offset = ledger.state.clock_offset_seconds()
        if abs(offset) * 1_000 > self._settings.clock_offset_max_milliseconds:
            raise ClockOff(
                f"this machine's clock is {offset:+.3f} s off the database's, more than "
                f"{self._settings.clock_offset_max_milliseconds} ms: set it right, then start again"
            )

    # --- partitions ---

    def _take_up(self, ledger: _Ledger, source: KafkaSource) -> None:
        for key in source.to_take_up():
            self._confirm()
            self._register(ledger, key)
            why = ledger.store.halted(key)
            if why is None:
                stored = ledger.store.next_offset(key)
                assert stored is not None, "it was registered above"
                source.seek(key, stored)
                self._untried.add(key)
            else:
                source.halt(key)
                _log.error("partition_is_halted", **_named(key), why=why, command=release_command(key))

    def _register(self, ledger: _Ledger, key: PartitionKey) -> None:
        if ledger.store.next_offset(key) is not None:
            return
        others = [
            each
            for each in ledger.state.positions([key.topic])
            if each.partition.partition == key.partition and each.partition != key
        ]
        ledger.store.register(key, 0)
        if others:
            old = others[-1]
            why = (
                f"topic_recreated: topic id {old.partition.topic_id} of cluster {old.partition.cluster_id} was read to "
                f"offset {old.next_offset}; this one is {key.topic_id} of cluster {key.cluster_id} and would begin at 0"
            )
            ledger.store.halt(key, why)

    def _halt(self, key: PartitionKey, why: str) -> None:
        self._ledger.store.halt(key, why)
        self._source.halt(key)
        metrics.HALTED.labels(key.topic, key.partition).inc()
        _log.error("partition_halted", **_named(key), why=why, command=release_command(key))

    # --- batches ---

    def _parts(self, reads: Sequence[PartitionRead]) -> Iterator[list[PartitionRead]]:
        """What is decided together: within the bounds, and one by one where a worker died before.

        The first try after a partition was taken up is noted just before it: whoever dies in it leaves the note behind.
        """
        careful = [read for read in reads if self._died_here(read)]
        usual = [read for read in reads if read not in careful]
        for of_topic in by_topic(usual):
            for part in self._in_one_database(of_topic):
                for read in part:
                    if read.records and read.partition in self._untried:
                        self._begin(read.partition, read.expected_offset)
                yield part
        for read in careful:
            yield from self._one_by_one(read)

    def _in_one_database(self, reads: Sequence[PartitionRead]) -> Iterator[list[PartitionRead]]:
        """The reads within the bounds of a batch, those of each database apart: it has a transaction of its own."""
        homes: dict[str, list[PartitionRead]] = {}
        for read in reads:
            homes.setdefault(self._ledger.store.home_of(read.partition), []).append(read)
        for of_home in homes.values():
            yield from within(of_home, self._pace.records, self._settings.batch_bytes_max)

    def _died_here(self, read: PartitionRead) -> bool:
        key, offset = read.partition, read.expected_offset
        # A try of ours that ended without a database is no death.
        if key not in self._untried or not read.records or self._begun.get(key) == offset:
            return False
        return self._ledger.state.attempts(key, offset) > 0

    def _begin(self, key: PartitionKey, offset: int) -> int:
        """Returns how often workers began at this offset and did not go beyond it, this time included."""
        self._untried.discard(key)
        if self._begun.get(key) == offset:
            return self._ledger.state.attempts(key, offset)
        self._begun[key] = offset
        return self._ledger.state.begin_attempt(key, offset)

    def _one_by_one(self, read: PartitionRead) -> Iterator[list[PartitionRead]]:
        _log.warning("records_one_by_one", **_named(read.partition), offset=read.expected_offset)
        for single in singles(read):
            count = self._begin(single.partition, single.expected_offset)
            if count > CRASHES_MAX:
                how = "the process died without a word"
                self._halt(single.partition, poison_message(single.expected_offset, count - 1, how))
                return
            yield [single]

    def _settle(self, reads: list[PartitionRead]) -> None:
        """The batch is sent; it is settled when the next one has been decided, or when there is none to decide."""
        if not self._settings.batch_overlap or any(read.partition in self._begun for read in reads):
            # What is tried for the first time, or one by one, is settled before anything else is begun.
            self._settle_alone(reads)
            return
        began = time.monotonic()
        try:
            begin = partial(self._ledger.store.overlapped_for, reads[0].partition)
            batch = decide_and_write(begin, reads, self._decider(reads), _write, self._progress)
        except EarlierBatchLost as lost:
            self._settle_sent_again(lost)
            self._settle_alone(reads)
        except Fenced:
            self._settle_alone(reads)
        except (Busy, OutcomeUnknown, psycopg.Error):
            raise
        except Exception as error:
            self._note_crash(error)
            raise
        else:
            # This one has written, so the one before is durable.
            self._confirm()
            self._sent = _Sent(reads, batch, began)

    def _decider(self, reads: list[PartitionRead]) -> Decide:
        return decider_of(reads[0].partition.topic, self._ledger.catalogue())

    def _confirm(self) -> None:
        """What was sent is settled; if it was not written, it is decided once more, alone."""
        if self._sent is None:
            return
        try:
            self._ledger.store.confirm()
        except EarlierBatchLost as lost:
            self._settle_sent_again(lost)
        else:
            sent, self._sent = self._sent, None
            self._settled(sent.reads, sent.batch, time.monotonic() - sent.began)

    def _settle_sent_again(self, lost: EarlierBatchLost) -> None:
        sent, self._sent = self._sent, None
        assert sent is not None, "only what was sent can be lost"
        _log.warning("batch_decided_again", error=str(lost))
        self._settle_alone(sent.reads)

    def _settle_alone(self, reads: list[PartitionRead]) -> None:
        """The batch is settled, and so is the one before."""
        self._confirm()
        began = time.monotonic()
        for _ in range(DECISIONS_MAX):
            try:
                begin = partial(self._ledger.store.transaction_for, reads[0].partition)
                batch = decide_and_write(begin, reads, self._decider(reads), _write, self._progress)
            except Fenced as fenced:
                reads = self._still_ours(reads, fenced)
                if not reads:
                    return
            except (Busy, OutcomeUnknown, psycopg.Error):
                raise
            except Exception as error:
                self._note_crash(error)
                raise
            else:
                self._settled(reads, batch, time.monotonic() - began)
                return
        raise Busy("the partitions of one batch kept moving")

    def _settled(self, reads: list[PartitionRead], batch: UsageBatch, took_seconds: float) -> None:
        for read in reads:
            if self._begun.pop(read.partition, None) is not None:
                self._ledger.state.end_attempts(read.partition, read.next_offset)
        self._pace.held(
            sum(len(read.records) for read in reads), self._ledger.store.held_seconds_at(reads[0].partition)
        )
        self._letters_waiting |= bool(batch.dead_letters)
        if batch.holes:
            metrics.HOLES.labels("open").inc(len(batch.holes))
            self._next["holes"] = min(self._next.get("holes", 0.0), time.monotonic() + 1.0)
        foreign, self._progress.foreign_keys = self._progress.foreign_keys, 0
        metrics.FOREIGN_KEYS.inc(foreign)
        outcomes = self._count(batch)
        self._source.tell_group({read.partition: read.next_offset for read in reads})
        _log.info(
            "batch_settled",
            records=sum(len(read.records) for read in reads),
            outcomes=outcomes,
            took_ms=round(took_seconds * 1_000, 1),
            offsets={
                f"{read.partition.topic}/{read.partition.partition}": [read.expected_offset, read.next_offset]
                for read in reads
            },
            **({"holes": len(batch.holes)} if batch.holes else {}),
            **({"foreign_keys": foreign} if foreign else {}),
        )

    def _count(self, batch: UsageBatch) -> Outcomes:
        outcomes: Outcomes = {}
        for advance in batch.advances:
            add_outcomes(outcomes, advance.outcomes)
        add_outcomes(self.outcomes, outcomes)
        for outcome, reasons in outcomes.items():
            for reason, count in reasons.items():
                metrics.RECORDS.labels(outcome, reason).inc(count)
        return outcomes

    def _still_ours(self, reads: list[PartitionRead], fenced: Fenced) -> list[PartitionRead]:
        """The reads whose partition stands where we thought; the others go on from where it stands."""
        ours: list[PartitionRead] = []
        for read in reads:
            stored = self._ledger.store.next_offset(read.partition)
            if self._ledger.store.halted(read.partition) is not None:
                self._source.halt(read.partition)
            elif stored == read.expected_offset:
                ours.append(read)
            elif stored is not None:
                self._source.seek(read.partition, stored)
        metrics.FENCED_WRITES.inc()
        _log.warning("batch_fenced", error=str(fenced), kept=len(ours), of=len(reads))
        return ours

    def _note_crash(self, error: Exception) -> None:
        """The record that was being decided is counted; the third time, its partition stops."""
        place = self._progress.place
        if place is None:
            return
        state = self._ledger.state
        begun = self._begun.get(place.partition) == place.offset
        count = (state.attempts if begun else state.begin_attempt)(place.partition, place.offset)
        _log.error("record_crashed", **_named(place.partition), offset=place.offset, attempts=count)
        if count >= CRASHES_MAX:
            self._halt(place.partition, poison_message(place.offset, count, type(error).__name__))

    # --- what is done beside reading ---

    def _look_after(self, ledger: _Ledger, source: KafkaSource, *, idle: bool) -> None:
        if idle or self._due("holes", HOLES_SECONDS):
            self._read_holes_again(ledger, source)
        if self._letters_waiting or self._due("letters", LETTERS_SECONDS):
            self._confirm()
            self._letters_waiting = False
            metrics.LETTERS_PUBLISHED.inc(self._publisher.publish())
        if self._due("lag", LAG_SECONDS) or (idle and self._options.until_drained):
            self._measure_lag(ledger, source, idle=idle)

    def _measure_lag(self, ledger: _Ledger, source: KafkaSource, *, idle: bool) -> None:
        """Also finds out whether a broker is there at all: polling never says."""
        self._confirm()
        ends = source.end_offsets()
        behind = 0
        for key, end in ends.items():
            at = source.expected(key)
            if at is None:
                continue
            lag = max(0, end - at)
            behind += lag
            metrics.LAG.labels(key.topic, key.partition).set(lag)
            self._watch(key, at, lag)
        self._watch_transactions(source.held_back(ends))
        self._drained = (
            self._options.until_drained
            and idle
            and not behind
            and not source.to_take_up()
            and not ledger.state.open_holes(ends)
        )

    def _watch(self, key: PartitionKey, at: int, lag: int) -> None:
        """A partition that is ours, has records and does not move gets a fresh client."""
        now = time.monotonic()
        seen_at, since = self._moved_at.get(key, (-1, now))
        if seen_at != at or not lag:
            self._moved_at[key] = (at, now)
        elif now - since > STUCK_SECONDS:
            self._moved_at.clear()
            raise SourceAway(
                f"{key.topic}/{key.partition} has {lag} records and has not moved for {STUCK_SECONDS:.0f} s"
            )

    def _watch_transactions(self, held_back: dict[PartitionKey, int]) -> None:
        """An open transaction of some producer holds back all that follows it; nobody else would say so."""
        now = time.monotonic()
        self._held_back_since = {key: self._held_back_since.get(key, now) for key in held_back}
        for key, since in self._held_back_since.items():
            if now - since > HELD_BACK_SECONDS:
                _log.error(
                    "open_transaction_holds_back",
                    **_named(key),
                    offsets=held_back[key],
                    seconds=round(now - since),
                    command=f"kafka-transactions.sh find-hanging --topic {key.topic}",
                )

    def _read_holes_again(self, ledger: _Ledger, source: KafkaSource) -> None:
        if not self._due("open_holes", 1.0):
            return
        self._confirm()
        try:
            for found in read_again(self._bootstrap, ledger.state.open_holes(source.owned())):
                if found.records:
                    self._fill(ledger, found)
                else:
                    ledger.state.confirm_hole(found.hole)
                    metrics.HOLES.labels("confirmed").inc()
        except PartitionBroken as broken:
            self._halt(broken.partition, broken.why)

    def _fill(self, ledger: _Ledger, found: ReadAgain) -> None:
        """The records that the first reader never gave us are settled like any other."""
        self._confirm()
        hole = found.hole
        _log.error(
            "hole_had_records", **_named(hole.partition), offsets=[each.offset for each in found.records]
        )
        read = PartitionRead(
            hole.partition, hole.first_offset, hole.next_offset, found.records, advances=False
        )
        outcomes: Outcomes = {}

        def write(transaction: AnyTransaction, batch: UsageBatch) -> None:
            nonlocal outcomes
            outcomes = outcomes_of(read, batch)
            if ledger.state.fill_hole(transaction.connection, hole, batch, outcomes):
                transaction.write(batch)
            else:
                outcomes = {}

        decide = decider_of(hole.partition.topic, ledger.catalogue())
        begin = partial(ledger.store.transaction_for, hole.partition)
        batch = decide_and_write(begin, [read], decide, write, self._progress)
        add_outcomes(self.outcomes, outcomes)
        self._letters_waiting |= bool(batch.dead_letters)
        metrics.HOLES.labels("filled").inc()

    def _due(self, what: str, every_seconds: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_seconds
        return True


def _write(transaction: AnyTransaction, batch: UsageBatch) -> None:
    transaction.write(batch)


def by_topic(reads: Sequence[PartitionRead]) -> Iterator[list[PartitionRead]]:
    """The reads of each topic, in the order in which the topics first come."""
    topics: dict[str, list[PartitionRead]] = {}
    for read in reads:
        topics.setdefault(read.partition.topic, []).append(read)
    return iter(topics.values())


def within(reads: Sequence[PartitionRead], records_max: int, bytes_max: int) -> Iterator[list[PartitionRead]]:
    """The reads cut into batches of at most so many records and bytes; a single record may be larger."""
    batch: list[PartitionRead] = []
    records = size = 0
    for read in reads:
        for piece in _pieces(read, records_max, bytes_max):
            piece_size = _size(piece)
            if batch and (records + len(piece.records) > records_max or size + piece_size > bytes_max):
                yield batch
                batch, records, size = [], 0, 0
            batch.append(piece)
            records, size = records + len(piece.records), size + piece_size
    if batch:
        yield batch


def singles(read: PartitionRead) -> Iterator[PartitionRead]:
    """The read as one read per record, each with the holes before it."""
    return _cut(read, lambda _records, _size: True)


def _pieces(read: PartitionRead, records_max: int, bytes_max: int) -> Iterator[PartitionRead]:
    if len(read.records) <= records_max and _size(read) <= bytes_max:
        return iter([read])
    return _cut(read, lambda records, size: records >= records_max or size >= bytes_max)


def _cut(read: PartitionRead, full: Callable[[int, int], bool]) -> Iterator[PartitionRead]:
    """Pieces that each end with the record at which ``full`` (records, bytes of the piece) is first true."""
    first = size = 0
    expected = read.expected_offset
    for position, record in enumerate(read.records):
        size += len(record.value or b"")
        last = position == len(read.records) - 1
        if last or full(position + 1 - first, size):
            until = read.next_offset if last else record.offset + 1
            holes = [hole for hole in read.holes if expected <= hole.first_offset < until]
            records = read.records[first : position + 1]
            yield PartitionRead(read.partition, expected, until, records, holes, read.advances)
            expected, first, size = until, position + 1, 0
    if not read.records:
        yield read


def _size(read: PartitionRead) -> int:
    return sum(len(record.value or b"") for record in read.records)


def outcomes_of(read: PartitionRead, batch: UsageBatch) -> Outcomes:
    """How many of a read's records ended how, from what was decided to be written."""
    outcomes: Outcomes = {}
    for row in batch.outcomes:
        add_outcomes(outcomes, {row.outcome: {row.reason: 1}})
    for append in batch.appends.values():
        for event in append.events:
            if getattr(event, "origin", None) is not None:
                waiver = getattr(event, "waiver", None)
                add_outcomes(outcomes, {"waived": {waiver: 1}} if waiver else {"charged": {"": 1}})
    assert sum(sum(reasons.values()) for reasons in outcomes.values()) == len(read.records)
    return outcomes


def add_outcomes(totals: Outcomes, more: Outcomes) -> None:
    """The counts of ``more`` are part of ``totals``."""
    for outcome, reasons in more.items():
        kept = totals.setdefault(outcome, {})
        for reason, count in reasons.items():
            kept[reason] = kept.get(reason, 0) + count


def poison_message(offset: int, crashes: int, how: str) -> str:
    """Why a partition stopped at a record that crashes workers."""
    return f"poison_record: {crashes} workers died on offset {offset} ({how}); nothing is skipped by itself"


def release_command(key: PartitionKey) -> str:
    """What an operator runs once the cause is gone; with `--skip-to` where it cannot be."""
    return f"coffer consume --release {key.topic}/{key.partition}"


def _named(key: PartitionKey) -> dict[str, object]:
    return {"topic": key.topic, "partition": key.partition}
