"""Flows run through a real Kafka and a real PostgreSQL, each on topics and a database of its own."""

from collections.abc import Callable, Iterator

import pytest

from infra.topics import Topic, create_topics, dead_letter_topic
from tests.streams_on_kafka import Stream

PARTITIONS = 2


@pytest.fixture
def stream(database_url: str, kafka_bootstrap: str, topic: Callable[..., str]) -> Iterator[Stream]:
    """An empty topic, an empty ledger, a card of one credit a unit, and team acme with 1,000 credits."""
    name = topic(partitions=PARTITIONS, name="usage")
    create_topics(kafka_bootstrap, [Topic(dead_letter_topic(name), 1)])
    stream = Stream(database_url, kafka_bootstrap, name)
    stream.publish()
    stream.open("acme", granted=1_000)
    yield stream
    stream.close()


@pytest.fixture
def payments(stream: Stream, kafka_bootstrap: str, topic: Callable[..., str]) -> Iterator[Stream]:
    """An empty topic of payments of the same ledger."""
    name = topic(partitions=PARTITIONS, name="payments")
    create_topics(kafka_bootstrap, [Topic(dead_letter_topic(name), 1)])
    beside = stream.beside(name)
    yield beside
    beside.close()
