"""Events of the ledger as other systems read them: CloudEvents whose identity is their place in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from consumers.wire_rules import BINARY_CONTENT_TYPE, SPEC_VERSION
from domain.shards import shard_of
from infra.kafka.broker import CLIENT

TYPE_PREFIX = "com.coffer.ledger."
SOURCE_PREFIX = "urn:coffer:ledger:"

ALERTING = frozenset({"LimitThresholdReached", "HoldDenied", "AutoTopUpFailed"})
"""Events that somebody should hear of at once; they go to the topic of alerts as well."""

DELIVERY_MILLISECONDS_MAX = 24 * 3_600_000
"""While a producer lives, a record waits for the broker rather than fail and let later ones pass it."""

LOOK_SECONDS = 0.5

_log = structlog.get_logger("relay")


class LedgerEvent(NamedTuple):
    """An event of the log at its place. ``installation`` tells one ledger's positions from another's."""

    installation: str
    shard: int
    position: int
    team_id: str
    version: int
    topic: str
    state: bytes


class LedgerRecord(NamedTuple):
    """The event as it goes to Kafka."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    is_alert: bool


class _Recorded(msgspec.Struct):
    recorded_at: datetime


_recorded = msgspec.json.Decoder(_Recorded).decode


def type_of_topic(topic: str) -> str:
    """The CloudEvents type of an event's stable topic: ``CreditsCharged.2`` is ``com.coffer.ledger.CreditsCharged.v2``."""
    name, _, version = topic.rpartition(".")
    return f"{TYPE_PREFIX}{name}.v{version}"


def topic_of_type(event_type: str) -> str | None:
    """The event's stable topic; None for a type that is no event of the ledger."""
    if not event_type.startswith(TYPE_PREFIX):
        return None
    name, _, version = event_type.removeprefix(TYPE_PREFIX).rpartition(".v")
    return f"{name}.{version}"


def ledger_record(event: LedgerEvent) -> LedgerRecord:
    """The event in CloudEvents binary mode, its value the very bytes of the log.

    (source, id) is (shard, position): a reader that keeps the last id of each source knows what it has had.
    """
    attributes = {
        "specversion": SPEC_VERSION,
        "type": type_of_topic(event.topic),
        "source": f"{SOURCE_PREFIX}{event.installation}:{event.shard}",
        "id": str(event.position),
        "subject": event.team_id,
        "time": _recorded(event.state).recorded_at.isoformat().replace("+00:00", "Z"),
        "version": str(event.version),
    }
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    headers.append(("content-type", BINARY_CONTENT_TYPE.encode()))
    return LedgerRecord(
        event.team_id.encode(), event.state, headers, event.topic.rpartition(".")[0] in ALERTING
    )


class NotAcknowledged(Exception):
    """The broker did not take a record: everything from the last mark on is sent again."""


class LedgerPublisher:
    """Sends records in order, each acknowledged by all replicas; repeats come only from sending again."""

    def __init__(self, bootstrap: str, ledger_topic: str, alerts_topic: str) -> None:
        self._bootstrap = bootstrap
        self._ledger_topic = ledger_topic
        self._alerts_topic = alerts_topic
        self._producer: KafkaProducer | None = None

    def send(self, records: Sequence[LedgerRecord], is_stopped: Callable[[], bool]) -> bool:
        """The broker has all records; False when ``is_stopped`` came true before that.

        Raises: NotAcknowledged; KafkaError when no broker answers.
        """
        producer = self._open()
        places = self._places(producer, records)
        answers: list[FutureRecordMetadata] = []
        for record in records:
            answers.append(
                producer.send(
                    self._ledger_topic,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    partition=places[record.key],
                )
            )
            if record.is_alert:
                answers.append(
                    producer.send(
                        self._alerts_topic, key=record.key, value=record.value, headers=record.headers
                    )
                )
        return _all_taken(producer, answers, is_stopped)

    def _places(self, producer: KafkaProducer, records: Sequence[LedgerRecord]) -> dict[bytes, int]:
        """The partition of each key, by the hash of every Kafka client; left to it, the client asks for each record anew."""
        partitions = sorted(producer.partitions_for(self._ledger_topic) or ())
        if not partitions:
            raise NotAcknowledged(f"the broker names no partition of {self._ledger_topic!r}")
        return {
            key: partitions[shard_of(key.decode(), len(partitions))]
            for key in {record.key for record in records}
        }

    def close(self) -> None:
        """No connection is open; what was not acknowledged is not sent any more."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=0)
        except KafkaError:
            # It waits for what is under way, and we do not: what was not marked is sent again.
            producer._sender.force_close()  # noqa: SLF001 (no public way to end it at once)

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(
                **CLIENT,
                bootstrap_servers=self._bootstrap.split(","),
                client_id="coffer-relay",
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                batch_size=256 * 1024,
                linger_ms=5,
                max_block_ms=10_000,
                max_request_size=8 * 1024 * 1024,
                delivery_timeout_ms=DELIVERY_MILLISECONDS_MAX,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        return self._producer


def _all_taken(
    producer: KafkaProducer, answers: Sequence[FutureRecordMetadata], is_stopped: Callable[[], bool]
) -> bool:
    while not all(answer.is_done for answer in answers):
        if is_stopped():
            return False
        try:
            producer.flush(timeout=LOOK_SECONDS)
        except KafkaError as error:
            _log.info("waiting_for_broker", error=f"{type(error).__name__}: {error}")
    for answer in answers:
        if answer.failed():
            raise NotAcknowledged(f"the broker did not take a record: {answer.exception}")
    return True
