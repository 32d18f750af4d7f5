"""Usage goes to Kafka: each record acknowledged by the broker, once, in the order in which its team sent it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers.batches import PartitionKey
from domain.usage import OutcomeKind, UsageRecord
from infra.kafka.broker import CLIENT

Headers = list[tuple[str, bytes]]
Tally = dict[str, dict[str, int]]
"""Records by outcome and reason; the reason of a charge is empty."""

RECORDS_BETWEEN_LOOKS = 200
DELIVERY_SECONDS_MAX = 180


class Sent(NamedTuple):
    """One record as it goes to Kafka; its key is the team, so all of one team stays in order in one partition.

    ``outcome`` and ``reason`` say what its maker expects; ``usage`` is what it says, None when it cannot be read.
    """

    key: bytes
    value: bytes
    headers: Headers
    outcome: OutcomeKind
    reason: str
    usage: UsageRecord | None


class NotDelivered(RuntimeError):
    """The broker did not acknowledge a record; sending the same stream again is safe and goes on from there."""


def tally(pairs: Iterable[tuple[str, str]]) -> Tally:
    """How many there are of each outcome and reason, both in the order of their names."""
    counted: Tally = {}
    for (outcome, reason), count in sorted(Counter(pairs).items()):
        counted.setdefault(outcome, {})[reason] = count
    return counted


def produce(bootstrap: str, topic: str, stream: Iterable[Sent], look: Callable[[int], None]) -> int:
    """Every record of the stream is on the topic, acknowledged by all replicas; returns how many.

    ``look`` is called now and then with the number sent so far. Raises: NotDelivered.
    """
    failures: list[BaseException] = []
    producer = usage_producer(bootstrap)
    sent = 0
    try:
        for record in stream:
            future = producer.send(topic, key=record.key, value=record.value, headers=record.headers)
            future.add_errback(failures.append)
            sent += 1
            if sent % RECORDS_BETWEEN_LOOKS == 0:
                look(sent)
                _raise_first(failures)
        producer.flush(timeout=DELIVERY_SECONDS_MAX)
        _raise_first(failures)
    finally:
        producer.close(timeout=5)
    return sent


def usage_producer(bootstrap: str) -> KafkaProducer:
    """A producer that neither loses nor doubles nor reorders what it was given, while it lives."""
    return KafkaProducer(
        **CLIENT,
        bootstrap_servers=bootstrap.split(","),
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        batch_size=128 * 1024,
        compression_type="lz4",
        delivery_timeout_ms=DELIVERY_SECONDS_MAX * 1_000,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )


def end_offsets(bootstrap: str, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    """The offset after the last record of each partition."""
    consumer = KafkaConsumer(**CLIENT, bootstrap_servers=bootstrap.split(","), group_id=None)
    try:
        by_client = {TopicPartition(each.topic, each.partition): each for each in partitions}
        ends = consumer.end_offsets(list(by_client))
        return {by_client[client]: end for client, end in ends.items()}
    finally:
        consumer.close()


def _raise_first(failures: list[BaseException]) -> None:
    if failures:
        raise NotDelivered(f"{len(failures)} records were not acknowledged: {failures[0]}") from failures[0]
