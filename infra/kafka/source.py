"""Reads the stream so that nothing is skipped unseen: positions come from the ledger, every offset is accounted for."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import kafka
import msgspec
import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from consumers.batches import Hole, PartitionKey
from consumers.settling import PartitionRead
from consumers.stream_record import StreamRecord, append_time
from infra.kafka.broker import CLIENT
from infra.kafka.record_batches import LOG_APPEND_TIME, PROVED_FOR, read_in_batches

FETCH_MIN_BYTES = 512 * 1024
PARTITION_FETCH_BYTES = 1024 * 1024
PROBE_SECONDS = 5.0
METADATA_MAX_AGE_MILLISECONDS = 30_000

Polled: TypeAlias = StreamRecord | ConsumerRecord
"""What the client gives: ours where a batch was usual, else its own."""

_log = structlog.get_logger()


class ReadLimits(NamedTuple):
    """How much one poll may bring, and how long the broker may wait for more."""

    records: int = 2_000
    bytes: int = 8 * 1024 * 1024
    wait_milliseconds: int = 20


class PartitionBroken(Exception):
    """One partition cannot be read on from where the ledger stands; an operator must decide. ``why`` is for him."""

    def __init__(self, partition: PartitionKey, why: str) -> None:
        super().__init__(f"{partition.topic}/{partition.partition}: {why}")
        self.partition = partition
        self.why = why


class SourceAway(Exception):
    """No broker answers; nothing is lost, try again."""


class _Flags(ConsumerRebalanceListener):  # type: ignore[misc]
    """Only remembers what was taken away: the listener runs on the client's own thread."""

    def __init__(self) -> None:
        self.revoked: set[TopicPartition] = set()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self.revoked |= set(revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self.revoked |= set(lost)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Taken up in the poll loop, where the position is read from the ledger."""


class KafkaSource:
    """The topics as this worker reads them, in a group or with fixed partitions.

    ``known`` are the partitions with their identities when the worker started. A partition is read only after
    ``seek`` said where the ledger stands.
    """

    def __init__(
        self,
        bootstrap: str,
        known: Sequence[PartitionKey],
        *,
        group_id: str | None,
        fixed: Collection[PartitionKey] | None = None,
        limits: ReadLimits | None = None,
        session_timeout_milliseconds: int | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = {key.topic: key for key in known}
        self._group_id = group_id
        self._fixed = fixed
        self._limits = limits or ReadLimits()
        self._session_timeout = session_timeout_milliseconds
        self._expected: dict[TopicPartition, int] = {}
        self._halted: set[TopicPartition] = set()
        self._flags = _Flags()
        self._consumer: KafkaConsumer | None = None

    def open(self) -> None:
        """The client is connected and assigned, or joins its group. Raises: SourceAway."""
        self.close()
        self._flags = _Flags()
        try:
            consumer = KafkaConsumer(**self._configuration())
        except KafkaError as error:
            raise SourceAway(f"no broker answers at {self._bootstrap}: {error}") from error
        if not read_in_batches(consumer):
            _log.warning("stock_record_parser", client=kafka.__version__, proved_for=PROVED_FOR)
        if self._fixed is None:
            consumer.subscribe(topics=list(self._topics), listener=self._flags)
        else:
            consumer.assign([_client_key(key) for key in self._fixed])
        self._consumer = consumer

    def close(self) -> None:
        """The client has left its group and holds no connection; every position is forgotten."""
        self._expected.clear()
        self._halted.clear()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=3_000)

    def to_take_up(self) -> list[PartitionKey]:
        """Partitions that are ours now and wait for ``seek``; those taken from us are forgotten first."""
        assigned = self._client.assignment()
        lost, self._flags.revoked = self._flags.revoked, set()
        for partition in [*self._expected, *self._halted]:
            if partition in lost or partition not in assigned:
                self._expected.pop(partition, None)
                self._halted.discard(partition)
        fresh = assigned - self._expected.keys() - self._halted
        return sorted(self._key(partition) for partition in fresh)

    def seek(self, partition: PartitionKey, offset: int) -> None:
        """The next record read of the partition is the one at ``offset``."""
        client_key = _client_key(partition)
        if client_key in self._client.assignment():
            self._client.seek(client_key, offset)
            self._expected[client_key] = offset

    def halt(self, partition: PartitionKey) -> None:
        """The partition stays ours and is not read any more."""
        client_key = _client_key(partition)
        self._halted.add(client_key)
        self._expected.pop(client_key, None)
        if client_key in self._client.assignment():
            # Without a position the client would ask its group for one on every poll.
            self._client.seek(client_key, 0)
            self._client.pause(client_key)

    def forget_positions(self) -> None:
        """Nothing is read until every partition was taken up again from the ledger."""
        self._expected.clear()

    def owned(self) -> list[PartitionKey]:
        """The partitions that are being read."""
        return [self._key(partition) for partition in self._expected]

    def expected(self, partition: PartitionKey) -> int | None:
        """The next offset to read of a partition that is being read."""
        return self._expected.get(_client_key(partition))

    def poll(self, timeout_milliseconds: int) -> list[PartitionRead]:
        """What came in, with a hole for every jump in the offsets; positions move on.

        Raises: PartitionBroken; SourceAway when the client cannot say which partition failed and none can be read.
        """
        try:
            polled = self._poll_client(timeout_milliseconds)
        except NoOffsetForPartitionError:
            # Assigned and not yet taken up: the loop does that next.
            return []
        except OffsetOutOfRangeError as error:
            raise self._out_of_range(error) from error
        except LogTruncationError as error:
            raise self._truncated(error) from error
        except (KafkaError, ValueError, RuntimeError, ImportError) as error:
            raise self._broken(error) from error
        self._require_same_topics()
        reads = [self._read(partition, records) for partition, records in polled.items()]
        return [read for read in reads if read is not None] or self._passed_silently()

    def end_offsets(self) -> dict[PartitionKey, int]:
        """Where each partition that we read ends for readers of committed records. Raises: SourceAway."""
        partitions = list(self._expected)
        if not partitions:
            return {}
        try:
            ends = self._client.end_offsets(partitions, timeout_ms=3_000)
        except KafkaError as error:
            raise SourceAway(f"no broker answers at {self._bootstrap}: {error}") from error
        return {self._key(partition): end for partition, end in ends.items()}

    def held_back(self, ends: Mapping[PartitionKey, int]) -> dict[PartitionKey, int]:
        """How many offsets lie behind the end of what is committed: a transaction that stays open pins them."""
        known = {key: self._client.highwater(_client_key(key)) for key in ends}
        return {key: last - ends[key] for key, last in known.items() if last is not None and last > ends[key]}

    def tell_group(self, offsets: Mapping[PartitionKey, int]) -> None:
        """The group's committed offsets say the same, for tools that show lag; nothing ever reads them back."""
        if self._group_id is None or self._fixed is not None:
            return
        told = {_client_key(key): OffsetAndMetadata(offset, "", -1) for key, offset in offsets.items()}
        mine = {key: offset for key, offset in told.items() if key in self._client.assignment()}
        if mine:
            self._client.commit_async(mine, callback=_ignore_answer)

    def _poll_client(self, timeout_milliseconds: int) -> dict[TopicPartition, list[Polled]]:
        polled: dict[TopicPartition, list[Polled]] = self._client.poll(timeout_ms=timeout_milliseconds)
        return polled

    @property
    def _client(self) -> KafkaConsumer:
        assert self._consumer is not None, "open the source first"
        return self._consumer

    def _configuration(self) -> dict[str, object]:
        session = {} if self._session_timeout is None else {"session_timeout_ms": self._session_timeout}
        return (
            reader_configuration(self._bootstrap)
            | session
            | {
                "group_id": self._group_id if self._fixed is None else None,
                "client_id": "coffer-consume",
                "max_poll_records": self._limits.records,
                "fetch_max_bytes": self._limits.bytes,
                "fetch_min_bytes": FETCH_MIN_BYTES,
                "fetch_max_wait_ms": self._limits.wait_milliseconds,
            }
        )

    def _key(self, partition: TopicPartition) -> PartitionKey:
        return self._topics[partition.topic]._replace(partition=partition.partition)

    def _read(self, partition: TopicPartition, records: Sequence[Polled]) -> PartitionRead | None:
        expected = self._expected.get(partition)
        if expected is None:
            return None
        if records[0].offset < expected:
            # A fetch that was under way when we sought; the client shall ask again from where the ledger stands.
            self._client.seek(partition, expected)
            return None
        key = self._key(partition)
        read = PartitionRead(
            key,
            expected,
            records[-1].offset + 1,
            [each if isinstance(each, StreamRecord) else stream_record(key, each) for each in records],
            list(jumps(key, expected, records)),
        )
        self._expected[partition] = read.next_offset
        return read

    def _passed_silently(self) -> list[PartitionRead]:
        """Offsets at the end of what can be read that the client passed without a record, such as markers."""
        passed: list[PartitionRead] = []
        for partition, expected in self._expected.items():
            at = self._client.position(partition, timeout_ms=1_000)
            if at is not None and at > expected:
                key = self._key(partition)
                passed.append(PartitionRead(key, expected, at, [], [Hole(key, expected, at)]))
                self._expected[partition] = at
        return passed

    def _require_same_topics(self) -> None:
        for topic, key in self._topics.items():
            # The client refreshes this before it fetches by a new id, so records of a recreated topic come after it.
            now = self._client._cluster.topic_id(topic)  # noqa: SLF001 (no public way to ask)
            if now is not None and str(now) != key.topic_id:
                raise TopicRecreated(topic, key.topic_id, str(now))

    def _out_of_range(self, error: OffsetOutOfRangeError) -> PartitionBroken:
        partition, offset = next(iter(error.args[0].items()))
        return PartitionBroken(
            self._key(partition),
            f"offset_out_of_range: the broker no longer has, or never had, offset {offset}, which is next",
        )

    def _truncated(self, error: LogTruncationError) -> PartitionBroken:
        partition, there = next(iter(error.divergent_offsets.items()))
        ends = f"at offset {there.offset}" if there is not None else "earlier"
        return PartitionBroken(
            self._key(partition),
            f"log_truncated: the broker's log ends {ends}, before what was already read of it",
        )

    def _broken(self, error: Exception) -> PartitionBroken | SourceAway:
        """Which partition the client failed on: each is tried alone by a fresh client."""
        if getattr(error, "retriable", False):
            return SourceAway(f"{type(error).__name__}: {error}")
        for partition, offset in self._expected.items():
            failure = probe(self._bootstrap, partition, offset)
            if failure is not None:
                return PartitionBroken(self._key(partition), f"unreadable: at offset {offset}: {failure}")
        return SourceAway(f"{type(error).__name__}: {error}")


class TopicRecreated(Exception):
    """The topic was deleted and made again while we read it: its offsets mean other records now."""

    def __init__(self, topic: str, old: str, new: str) -> None:
        super().__init__(f"topic {topic!r} was recreated: its id was {old} and is now {new}")
        self.topic = topic


class ReadAgain(msgspec.Struct, frozen=True):
    """What a second reader found where the first found nothing."""

    hole: Hole
    records: list[StreamRecord]


def reader_configuration(bootstrap: str) -> dict[str, object]:
    """The settings that every reader of ours has; the client's own defaults are unsafe for money."""
    return CLIENT | {
        "bootstrap_servers": bootstrap.split(","),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "check_crcs": True,
        "metrics_enabled": False,
        "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
        "metadata_max_age_ms": METADATA_MAX_AGE_MILLISECONDS,
    }


def jumps(key: PartitionKey, expected: int, records: Sequence[Polled]) -> Iterator[Hole]:
    """A hole for every jump in the ascending offsets, which should begin at ``expected`` and have no gap."""
    if records[-1].offset - expected + 1 == len(records):
        return
    for record in records:
        if record.offset > expected:
            yield Hole(key, expected, record.offset)
        expected = record.offset + 1


def read_again(bootstrap: str, holes: Sequence[Hole]) -> Iterator[ReadAgain]:
    """Each hole as a fresh reader sees it, with the stock parser; a hole that cannot be read to its end is left out.

    Raises: SourceAway.
    """
    if not holes:
        return
    try:
        consumer = KafkaConsumer(**reader_configuration(bootstrap), max_poll_records=500)
    except KafkaError as error:
        raise SourceAway(f"no broker answers at {bootstrap}: {error}") from error
    try:
        for hole in holes:
            found = _read_hole(consumer, hole)
            if found is not None:
                yield ReadAgain(hole, [stream_record(hole.partition, each) for each in found])
    finally:
        consumer.close(autocommit=False, timeout_ms=1_000)


def probe(bootstrap: str, partition: TopicPartition, offset: int) -> str | None:
    """What a fresh client says when it cannot read the partition from ``offset``; None when it can."""
    consumer = KafkaConsumer(**reader_configuration(bootstrap))
    try:
        consumer.assign([partition])
        consumer.seek(partition, offset)
        deadline = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < deadline:
            if consumer.poll(timeout_ms=500, max_records=1):
                return None
            if consumer.position(partition) > offset:
                return None
    except (KafkaError, ValueError, RuntimeError, ImportError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        consumer.close(autocommit=False, timeout_ms=1_000)
    return None


def _read_hole(consumer: KafkaConsumer, hole: Hole) -> list[ConsumerRecord] | None:
    partition = _client_key(hole.partition)
    if partition not in consumer.assignment():
        consumer.assign([partition])
    consumer.seek(partition, hole.first_offset)
    found: list[ConsumerRecord] = []
    deadline = time.monotonic() + PROBE_SECONDS
    try:
        while consumer.position(partition) < hole.next_offset and time.monotonic() < deadline:
            for each in consumer.poll(timeout_ms=500).get(partition, []):
                if each.offset < hole.next_offset:
                    found.append(each)
        reached = consumer.position(partition) >= hole.next_offset
    except (KafkaError, ValueError, RuntimeError, ImportError) as error:
        _log.error("hole_unreadable", hole=hole._asdict(), error=f"{type(error).__name__}: {error}")
        return None
    return found if reached else None


def _client_key(partition: PartitionKey) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


def stream_record(key: PartitionKey, record: ConsumerRecord) -> StreamRecord:
    """The client's own record as ours. Raises: PartitionBroken for one that bears its producer's time."""
    if record.timestamp_type != LOG_APPEND_TIME:
        raise PartitionBroken(
            key,
            f"producer_time: offset {record.offset} bears its producer's time: set message.timestamp.type "
            "to LogAppendTime",
        )
    return StreamRecord(
        record.topic, record.partition, record.offset, record.key, record.value, record.headers,
        append_time(record.timestamp),
    )  # fmt: skip


def _ignore_answer(_offsets: object, _answer: object) -> None:
    """Whether the broker took the information changes nothing."""
