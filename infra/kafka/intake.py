"""Usage that came over HTTP goes to its topic: read as the consumer will read it, acknowledged by all replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from api.intake import Message, Place, Readable, Unreadable
from consumers.stream_record import StreamRecord
from consumers.wire import Rejection, read_usages
from domain.errors import Busy
from infra.kafka.broker import CLIENT

ACKNOWLEDGED_SECONDS_MAX = 10.0
BLOCKED_MILLISECONDS_MAX = 5_000
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The reading does not look at the time of arrival; the broker sets it."""


class KafkaIntake:
    """A topic of usage behind the API; where its broker is, it asks when the first record comes."""

    def __init__(self, bootstrap: Callable[[], str], topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._opening = threading.Lock()
        self._producer: KafkaProducer | None = None

    def read(self, messages: Sequence[Message]) -> list[Readable | Unreadable]:
        """Each record as the consumer will read it."""
        records = [
            StreamRecord(self._topic, 0, 0, None, each.value, each.headers, _NO_TIME) for each in messages
        ]
        return [
            Unreadable(each.reason, each.detail)
            if isinstance(each, Rejection)
            else Readable(each.team_id, each.source, each.id, each.action)
            for each in read_usages(records)
        ]

    def send(self, messages: Sequence[tuple[str, Message]]) -> list[Place]:
        """Every record is on the topic under its team. Raises: Busy; then any of them may be, and sending again is safe."""
        try:
            producer = self._open()
            sent = [self._send_one(producer, team_id, each) for team_id, each in messages]
            producer.flush(timeout=ACKNOWLEDGED_SECONDS_MAX)
            told = [each.get(timeout=ACKNOWLEDGED_SECONDS_MAX) for each in sent]
        except KafkaError as error:
            raise Busy(
                f"the broker did not take the records in time: {type(error).__name__}: {error}"
            ) from error
        return [Place(each.partition, each.offset) for each in told]

    def close(self) -> None:
        """No connection is open."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=3)

    def _send_one(self, producer: KafkaProducer, team_id: str, message: Message) -> FutureRecordMetadata:
        future: FutureRecordMetadata = producer.send(
            self._topic, key=team_id.encode(), value=message.value, headers=message.headers
        )
        return future

    def _open(self) -> KafkaProducer:
        with self._opening:
            if self._producer is None:
                self._producer = KafkaProducer(
                    **CLIENT,
                    bootstrap_servers=self._bootstrap().split(","),
                    acks="all",
                    enable_idempotence=True,
                    max_block_ms=BLOCKED_MILLISECONDS_MAX,
                    linger_ms=5,
                )
            return self._producer
