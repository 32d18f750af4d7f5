"""Flows run through a real Kafka and a real PostgreSQL, each on topics and a database of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.postgres.verification import verify
from infra.topics import Topic, create_topics, dead_letter_topic
from tests.flows.http_story import LedgerOverHttp, Story, Tell, ledger_over_http
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


# --- stories over HTTP ---


@pytest.fixture(scope="module")
def ledger(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerOverHttp]:
    """One ledger for all stories of a module, each about a team of its own; in the end all of it agrees with a replay."""
    state: Path = tmp_path_factory.mktemp("stories")
    with ledger_over_http(module_database_url, state) as ledger:
        yield ledger
        ledger.project()
        assert verify(ledger.shards).findings == []


@pytest.fixture
def tell(ledger: LedgerOverHttp) -> Iterator[Tell]:
    """Begins the story of a new team; at the end, what is stored of it agrees with what was answered."""
    told: list[Story] = []

    def begin(name: str, *cards: dict[str, Any], **terms: Any) -> Story:
        story = ledger.story(name, *cards, **terms)
        told.append(story)
        return story

    yield begin
    for story in told:
        story.ends_sound()
