"""Dead letters reach their topic at least once, untouched, each acknowledged by the broker before it is marked."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata
from kafka.serializer import Serializer

from consumers.dead_letters import Headers, published_headers
from infra.failpoints import hit
from infra.kafka.broker import CLIENT
from infra.kafka.erasing import finish_erasures
from infra.postgres.dead_letters import DeadLetters, StoredLetter
from infra.topics import dead_letter_topic

ACKNOWLEDGED_SECONDS_MAX = 20.0
BLOCKED_MILLISECONDS_MAX = 5_000
NULL_HEADERS = "coffer_dlt-null-headers"
"""Positions (from 0, joined by commas) of the record's own headers whose value was null: the client sends none."""

_log = structlog.get_logger()


class _Value:
    """A record's value in a wrapping, since the client refuses a record whose key and value are both null."""

    def __init__(self, value: bytes | None) -> None:
        self.value = value


class _Serializer(Serializer):  # type: ignore[misc]
    """Takes the value out of its wrapping."""

    def serialize(self, topic: str, headers: object, data: _Value) -> bytes | None:
        """The bytes as they were, null included."""
        return data.value


class DeadLetterPublisher:
    """Writes the letters of the table to the topic ``<topic>.dlq``.

    A crash between the broker's answer and the mark writes a letter twice; its coordinates tell which ones are one.
    """

    def __init__(self, bootstrap: str, letters: DeadLetters, consumer_group: str) -> None:
        self._bootstrap = bootstrap
        self._letters = letters
        self._consumer_group = consumer_group
        self._producer: KafkaProducer | None = None

    def publish(self) -> int:
        """Every letter of the table is in its topic, or an alarm says why not; returns how many were sent now."""
        sent = 0
        try:
            finish_erasures(self._letters.erasures, self._bootstrap)
            while waiting := self._letters.unpublished():
                self._send(waiting)
                sent += len(waiting)
        except (KafkaError, ValueError) as error:
            # They stay in the table, unmarked; the next round tries again.
            _log.error("dead_letters_unpublished", error=f"{type(error).__name__}: {error}", sent=sent)
            self.close()
        return sent

    def close(self) -> None:
        """No connection is open."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=3)

    def _send(self, waiting: Sequence[StoredLetter]) -> None:
        with self._letters.erasures.publishing():
            self._send_all(waiting)

    def _send_all(self, waiting: Sequence[StoredLetter]) -> None:
        producer = self._open()
        answers = [self._send_one(producer, each) for each in waiting]
        producer.flush(timeout=ACKNOWLEDGED_SECONDS_MAX)
        for answer in answers:
            answer.get(timeout=ACKNOWLEDGED_SECONDS_MAX)
        hit("dead_letters.before_mark")
        self._letters.mark_published([each.letter_id for each in waiting])

    def _send_one(self, producer: KafkaProducer, stored: StoredLetter) -> FutureRecordMetadata:
        letter = stored.letter
        headers = sendable(published_headers(letter, self._consumer_group))
        topic = dead_letter_topic(letter.partition.topic)
        answer: FutureRecordMetadata = producer.send(
            topic, key=letter.key, value=_Value(letter.value), headers=headers
        )
        return answer

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self._bootstrap.split(","),
                acks="all",
                enable_idempotence=True,
                max_block_ms=BLOCKED_MILLISECONDS_MAX,
                max_request_size=2 * 1024 * 1024,
                value_serializer=_Serializer(),
                **CLIENT,
            )
        return self._producer


def sendable(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers as the client takes them: a null value goes as no bytes, and one more header says which were null."""
    null = [str(position) for position, (_, value) in enumerate(headers) if value is None]
    sent = [(name, b"" if value is None else value) for name, value in headers]
    return [*sent, (NULL_HEADERS, ",".join(null).encode())] if null else sent
