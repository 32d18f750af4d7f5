"""Records that could not be charged: as they go to the dead-letter topic, and as they are tried again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from consumers.batches import BatchTransaction, DeadLetter, RecordOutcome, UsageBatch
from consumers.settling import HalfDecided, PartitionRead, Progress
from consumers.stream_record import StreamRecord
from consumers.streams import decider_of
from domain.account.events import CreditsCharged, UsageWaived
from domain.catalogue import Catalogue

DEAD_LETTER_TOPIC_SUFFIX = ".dlq"

Headers = list[tuple[str, bytes | None]]


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What a retry came to; ``batch`` is what to write for it.

    Charged, waived or applied: ``version`` is that of the new event. Duplicate or conflict: of the event that holds the id.
    """

    batch: UsageBatch
    outcome: RecordOutcome
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


def retry_letter(letter: DeadLetter, transaction: BatchTransaction, catalogue: Catalogue) -> Retried:
    """The stored record decided once more, with its own coordinates and arrival: as if its cause had never been.

    Nothing is written here, and the offset is not passed again. The same claim stands, so a retry run twice, or after
    the producer sent the record again, charges or applies nothing twice.
    """
    read = PartitionRead(
        letter.partition, letter.offset, letter.offset + 1, [_record(letter)], advances=False
    )
    decide = decider_of(letter.partition.topic, catalogue)
    try:
        batch = decide([read], transaction, Progress(), {})
    except HalfDecided as half:
        # What was recorded before the rule said no is not in the batch below, so it is not written.
        return _dead_again(UsageBatch(recorded_at=transaction.now), half)
    if not batch.outcomes:
        return _became_event(batch)
    row = batch.outcomes[0]
    is_applied = row.outcome == "applied"
    return Retried(
        batch=UsageBatch(recorded_at=batch.recorded_at, appends=batch.appends if is_applied else {}),
        outcome=row.outcome,
        reason=row.reason,
        detail=row.detail,
        team_id=row.team_id,
        version=row.first_version,
    )


def _dead_again(nothing: UsageBatch, half: HalfDecided) -> Retried:
    return Retried(
        batch=nothing,
        outcome="parked",
        reason=half.error.code,
        detail=half.error.detail,
        team_id=None,
        version=None,
    )


def _became_event(batch: UsageBatch) -> Retried:
    """One record of usage is one charge or waiver; what else it caused lies before and after it."""
    ((team_id, append),) = batch.appends.items()
    version, event = next(
        (version, event)
        for version, event in enumerate(append.events, append.expected_version + 1)
        if isinstance(event, CreditsCharged | UsageWaived)
    )
    waived = isinstance(event, UsageWaived)
    return Retried(
        batch=batch,
        outcome="waived" if waived else "charged",
        reason=event.waiver if isinstance(event, UsageWaived) else "",
        detail="",
        team_id=team_id,
        version=version,
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
