"""What left the log for an archive: whoever needs it is told which one holds it, and what brings it back."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow, tuple_row

from api.errors import EventsArchived

SKEW_MAX = timedelta(hours=1)
"""More than two transactions that end in another order than they began can be apart."""

GONE = (
    "SELECT s.stream_id, s.team_id, s.gone_after, s.gone_through, s.month, a.manifest, a.first_position, a.last_position"
    " FROM archive_stream AS s"
    " JOIN archive AS a ON a.shard = s.shard AND a.month = s.month WHERE s.shard = %s AND s.stream_id = ANY(%s)"
    " AND s.gone_through > s.gone_after AND s.gone_through > %s AND s.gone_after < %s"
    " ORDER BY s.stream_id, s.first_version"
)
"""The parts of streams, of a shard, that are in files only and have versions beyond a first and up to a last one."""


class Gone(NamedTuple):
    """Versions beyond ``after`` up to ``through`` of a stream are in the files of one archive only."""

    stream_id: UUID
    team_id: str
    after: int
    through: int
    month: str
    manifest: str
    first_position: int
    last_position: int

    def is_before(self, at: datetime) -> bool:
        """Whether all of it was recorded by the instant, or none of it, by its month. Raises: EventsArchived."""
        if month_end(self.month) + SKEW_MAX <= at:
            return True
        if month_start(self.month) - SKEW_MAX <= at:
            raise self.error()
        return False

    def error(self) -> EventsArchived:
        """What to say to whoever needs one of them."""
        return EventsArchived(
            f"versions {self.after + 1} to {self.through} of team {self.team_id!r} are in the archive of {self.month},"
            f" {self.manifest}: restore them with `coffer restore {self.manifest} --team {self.team_id}`, then ask again",
            team_id=self.team_id,
            month=self.month,
            manifest=self.manifest,
        )


def gone(
    connection: psycopg.Connection[Any],
    shard: int,
    streams: Sequence[UUID],
    after: int = 0,
    until: int | None = None,
) -> list[Gone]:
    """The parts of these streams, within the versions asked for, that only archives hold; by stream and version."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(GONE, gone_values(shard, streams, after, until), binary=True)
        return [Gone._make(row) for row in cursor.fetchall()]


def gone_values(shard: int, streams: Sequence[UUID], after: int, until: int | None) -> Sequence[object]:
    """The values for ``GONE``."""
    return shard, list(streams), after, 2**62 if until is None else until


def refuse_archived(
    connection: psycopg.Connection[Any], shard: int, stream_id: UUID, after: int, until: int | None
) -> None:
    """None of the stream's versions beyond ``after`` up to ``until`` is in an archive only. Raises: EventsArchived."""
    for part in gone(connection, shard, [stream_id], after, until):
        raise part.error()


def without_gap(
    rows: Iterable[TupleRow],
    after: int,
    until: int | None,
    version_of: Callable[[TupleRow], int],
    refuse: Callable[[int, int | None], None],
) -> Iterator[TupleRow]:
    """The rows of one stream in version order; ``refuse`` is asked about versions that are not among them.

    What it lets pass is missing for another reason, which is not ours to judge. A stream without a gap costs one question, at
    its end. The rows are of one snapshot, so an archiver at work is met before or after, never in between.
    """
    expected = after
    for row in rows:
        version = version_of(row)
        if version != expected + 1:
            refuse(expected, version - 1)
        expected = version
        yield row
    if until is None or expected < until:
        refuse(expected, until)


def refuse_archived_since(
    connection: psycopg.Connection[Any], shard: int, stream_id: UUID, version: int, at: datetime
) -> None:
    """The version, which is not in the log, was recorded before the instant, by the month of its archive.

    Raises: EventsArchived when only the archive could say.
    """
    parts = gone(connection, shard, [stream_id], version - 1, version)
    assert parts, f"version {version} of stream {stream_id} is missing"
    if month_end(parts[0].month) + SKEW_MAX > at:
        raise parts[0].error()


def archived_position(
    cursor: psycopg.Cursor[TupleRow], shard: int, first: int, last: int | None = None
) -> str | None:
    """Which archive alone holds an event at these positions, and what restores it; None when none does."""
    cursor.execute(
        "SELECT a.month, a.manifest FROM archive AS a WHERE a.shard = %s AND a.first_position <= %s AND a.last_position >= %s"
        " AND EXISTS (SELECT FROM archive_stream AS s WHERE s.shard = a.shard AND s.month = a.month"
        " AND s.gone_through > s.gone_after) ORDER BY a.first_position LIMIT 1",
        (shard, first if last is None else last, first),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    return (
        f"position {first} of shard {shard} is in the archive of {row[0]}, {row[1]}: restore it with"
        f" `coffer restore {row[1]}`, then go on"
    )


def refuse_archived_position(
    cursor: psycopg.Cursor[TupleRow], shard: int, first: int, last: int | None = None
) -> None:
    """No event at these positions is in an archive only. Raises: EventsArchived."""
    if (why := archived_position(cursor, shard, first, last)) is not None:
        raise EventsArchived(why)


def month_of(instant: datetime) -> str:
    """The calendar month of an instant, in UTC, such as 2026-01."""
    return instant.astimezone(UTC).strftime("%Y-%m")


def month_start(month: str) -> datetime:
    """The first instant of the month."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def month_end(month: str) -> datetime:
    """The first instant after the month."""
    start = month_start(month)
    return start + timedelta(days=monthrange(start.year, start.month)[1])


def months_before(months: int) -> datetime:
    """The first instant of the month that was so many months ago."""
    now = datetime.now(UTC)
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)
