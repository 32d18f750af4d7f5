"""Records that could not be charged: as they go to the dead-letter topic, and as they are tried again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from consumers.batches import BatchTransaction, DeadLetter, UsageBatch
from consumers.stream_record import StreamRecord
from consumers.usage import STREAM_ACTOR, PartitionRead, decide_batch
from domain.account.events import CreditsCharged, UsageWaived
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.usage import OutcomeKind

DEAD_LETTER_TOPIC_SUFFIX = ".dlq"

Headers = list[tuple[str, bytes | None]]


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What a retry came to; ``batch`` is what to write for it.

    Charged or waived: ``version`` is that of the new event. Duplicate or conflict: of the event that holds the id.
    """

    batch: UsageBatch
    outcome: OutcomeKind
    reason: str
    detail: str
    team_id: str | None
    version: int | None

    @property
    def settled(self) -> bool:
        """Whether the letter is done with; a letter that is parked or rejected again stays open."""
        return self.outcome not in {"parked", "rejected"}


def published_headers(letter: DeadLetter, consumer_group: str) -> Headers:
    """The record's own headers, untouched and first, then where it came from and why it is here.

    Names and forms are those of Spring for Apache Kafka (numbers big-endian: partition 4 bytes, offset and timestamp
    8), so that its tools read them; the exception's class and message carry our reason code and detail.
    """
    return [
        *letter.headers,
        ("kafka_dlt-original-topic", letter.partition.topic.encode()),
        ("kafka_dlt-original-partition", letter.partition.partition.to_bytes(4, "big", signed=True)),
        ("kafka_dlt-original-offset", letter.offset.to_bytes(8, "big", signed=True)),
        ("kafka_dlt-original-timestamp", _milliseconds(letter.arrived_at).to_bytes(8, "big", signed=True)),
        ("kafka_dlt-original-timestamp-type", b"LogAppendTime"),
        ("kafka_dlt-original-consumer-group", consumer_group.encode()),
        ("kafka_dlt-exception-fqcn", f"coffer.{letter.outcome}.{letter.reason}".encode()),
        ("kafka_dlt-exception-message", letter.detail.encode()),
    ]


def retry_letter(
    letter: DeadLetter, transaction: BatchTransaction, catalogue: Catalogue, actor: Actor = STREAM_ACTOR
) -> Retried:
    """The stored record decided once more, with its own coordinates and arrival: as if its cause had never been.

    Nothing is written here, and the offset is not passed again. The same claim stands, so a retry run twice, or after
    the producer sent the record again, charges nothing twice.
    """
    read = PartitionRead(
        letter.partition, letter.offset, letter.offset + 1, [_record(letter)], advances=False
    )
    batch = decide_batch([read], transaction, catalogue, actor)
    if batch.outcomes:
        row = batch.outcomes[0]
        return Retried(
            batch=UsageBatch(recorded_at=batch.recorded_at),
            outcome=row.outcome,
            reason=row.reason,
            detail=row.detail,
            team_id=row.team_id,
            version=row.first_version,
        )
    return _became_event(batch)


def _became_event(batch: UsageBatch) -> Retried:
    ((team_id, append),) = batch.appends.items()
    event = append.events[-1]
    assert isinstance(event, CreditsCharged | UsageWaived), "a usage record ends in a charge or a waiver"
    waived = isinstance(event, UsageWaived)
    return Retried(
        batch=batch,
        outcome="waived" if waived else "charged",
        reason=event.waiver if isinstance(event, UsageWaived) else "",
        detail="",
        team_id=team_id,
        version=append.expected_version + len(append.events),
    )


def _record(letter: DeadLetter) -> StreamRecord:
    headers: Sequence[tuple[str, bytes | None]] = letter.headers
    return StreamRecord(
        letter.partition.topic,
        letter.partition.partition,
        letter.offset,
        letter.key,
        letter.value,
        headers,
        letter.arrived_at,
    )


def _milliseconds(at: datetime) -> int:
    seconds = at.replace(microsecond=0)
    return int(seconds.timestamp()) * 1_000 + at.microsecond // 1_000
