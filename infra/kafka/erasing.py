"""What a member wrote leaves the topics of dead letters: they are emptied, and what is not erased is published once more."""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaConsumer, TopicPartition

from infra.kafka.broker import CLIENT, administration
from infra.postgres.erasures import Erasures
from infra.topics import dead_letter_topic

WAIT_MILLISECONDS_MAX = 20_000


def finish_erasures(erasures: Erasures, bootstrap: str) -> int:
    """Every erasure so far is through: letters, topics. Returns how many were finished now.

    A record of a topic cannot be erased by itself, so the topics are emptied up to their end; the table has every letter, and
    those that are not erased are published again.
    Raises: KafkaError when no broker answers; whoever asks again goes on from there.
    """
    waiting = erasures.unfinished()
    if not waiting:
        return 0
    erasures.erase_letters(waiting)
    with erasures.publishing(alone=True):
        # Noted before: whoever is killed in between publishes too much, never too little.
        erasures.publish_again()
        _empty(bootstrap, [dead_letter_topic(topic) for topic in erasures.topics()])
    erasures.topics_emptied(waiting)
    return len(waiting)


def _empty(bootstrap: str, topics: Sequence[str]) -> None:
    """No record that is in the topics now can be read any more."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, **CLIENT)
    try:
        partitions = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        ends = consumer.end_offsets(partitions) if partitions else {}
    finally:
        consumer.close()
    filled = {partition: end for partition, end in ends.items() if end}
    if filled:
        with administration(bootstrap) as admin:
            admin.delete_records(filled, timeout_ms=WAIT_MILLISECONDS_MAX)
