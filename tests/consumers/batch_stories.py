"""What tests of the batch path are told in: records at offsets of partitions, settled in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.batches import Hole, PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead
from consumers.usage_encoding import encode_usage
from domain.catalogue import Catalogue
from tests.builders import a_catalogue, a_usage_record, unit_card

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARTITIONS = [PartitionKey("cluster", "topic-id", "credits.usage.v1", number) for number in range(4)]


def a_card() -> Catalogue:
    return a_catalogue(unit_card())


def a_record(
    offset: int,
    record_id: str,
    units: int = 1,
    *,
    partition: int = 0,
    arrived: datetime = NOW,
    occurred: datetime | None = None,
    **changes: Any,
) -> StreamRecord:
    """A usage record of acme as the broker gives it."""
    usage = a_usage_record(
        record_id,
        units,
        occurred="2026-11-20 11:00",
        **({"occurred_at": occurred} if occurred else {}) | changes,
    )
    sent = encode_usage(usage)
    return StreamRecord(
        "credits.usage.v1", partition, offset, sent.key, sent.value, list(sent.headers), arrived
    )


def a_read(
    *records: StreamRecord, partition: int = 0, expected: int | None = None, holes: Sequence[Hole] = ()
) -> PartitionRead:
    """These records as one read of their partition."""
    first = records[0].offset if expected is None else expected
    return PartitionRead(PARTITIONS[partition], first, records[-1].offset + 1, records, holes)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
