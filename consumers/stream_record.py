"""One record as the broker gave it: bytes and coordinates, nothing read yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StreamRecord(msgspec.Struct, frozen=True, gc=False):
    """A Kafka record; ``arrived_at`` is the broker's append time (LogAppendTime), aware UTC.

    Header names may repeat. A null key, value or header value is None, which differs from no bytes.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    arrived_at: datetime


def append_time(milliseconds: int) -> datetime:
    """The broker's append time in milliseconds since 1970, as aware UTC, exactly."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def key_matches_team(record: StreamRecord, team_id: str) -> bool:
    """False if the record's key names another team: it is settled rightly, but its producer partitions wrongly."""
    return record.key is None or record.key == team_id.encode()
