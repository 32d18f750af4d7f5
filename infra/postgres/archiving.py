"""Events of months long closed leave the log for files, and come back: written, read back, only then removed, chunk by chunk.

Each step is written down in the transaction that does it, so whatever was killed goes on where it stood. At every instant every
event is in the log or in files that were read back and found equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg.rows import TupleRow

from domain.account.due import LATE_GRACE
from domain.chain import GENESIS
from domain.errors import Refused
from domain.times import instant_text
from infra.failpoints import hit
from infra.postgres.archive_files import (
    FILE_EVENTS_MAX,
    FORMAT,
    GROUP_EVENTS,
    MANIFEST,
    ArchiveDamaged,
    ArchivedEvent,
    ArchiveWriter,
    ChainedEvent,
    Chains,
    FilePart,
    Manifest,
    StreamPart,
    chained_parts,
    check_file,
    read_file,
    read_manifest,
    row_digest,
)
from infra.postgres.archived import month_end, month_of
from infra.postgres.heads import recorded_at_of
from infra.postgres.shards import ShardMap

ALONE_SECONDS_MAX = 5.0
ALONE_LOOK_SECONDS = 0.1

CHUNK_EVENTS = 5_000
"""How many events leave, or come back, in one transaction."""

STREAMS_TOGETHER = 500
PERIOD_MAX = timedelta(days=31)
"""The longest billing period; a month that ended this long ago, and late grace, is in no open one."""

Connection = psycopg.Connection[TupleRow]
log = structlog.get_logger("archive")


class ArchiveRefused(Refused):
    """What was asked would archive what is not closed, or restore what is not this ledger's."""

    code = "archive_refused"


class Archived(msgspec.Struct, frozen=True):
    """How far one archive has come: its month and shard, what it holds, how many events left the log in this run."""

    shard: int
    month: str
    status: str
    manifest: str
    first_position: int
    last_position: int
    removed: int = 0

    @property
    def events(self) -> int:
        """How many events it holds."""
        return self.last_position - self.first_position + 1


class Restored(msgspec.Struct, frozen=True):
    """How many events came back to the log, of how many streams."""

    shard: int
    month: str
    events: int
    streams: int


class Sizes(NamedTuple):
    """How much goes together: rows of a group, rows of a file, events of a transaction."""

    group_events: int = GROUP_EVENTS
    file_events_max: int = FILE_EVENTS_MAX
    chunk_events: int = CHUNK_EVENTS


Progress = Callable[[str], None]


def archive(
    shards: ShardMap,
    directory: Path,
    before: datetime,
    *,
    shard: int | None = None,
    again: bool = False,
    sizes: Sizes | None = None,
    progress: Progress = lambda _: None,
) -> list[Archived]:
    """Every event recorded in a month that ended by ``before`` is in files below ``directory``, and no longer in the log.

    Months go one after another, shard by shard; what an earlier run began is finished first. Those that were restored stay so
    unless ``again`` is said. Position decides: an event that was committed behind one of the next month goes with that one.
    Raises: ArchiveRefused, ArchiveDamaged, ParquetMissing; psycopg.OperationalError.
    """
    told: list[Archived] = []
    for each in range(shards.count) if shard is None else (shard,):
        with _archiver(shards, each) as connection:
            _check_closed(connection, before)
            work = _Archiving(connection, shards.count, each, directory, sizes or Sizes(), progress)
            told += work.run(before, again)
    return told


def restore(
    shards: ShardMap,
    manifest: Path,
    team_id: str | None = None,
    *,
    sizes: Sizes | None = None,
    progress: Progress = lambda _: None,
) -> Restored:
    """Events of the archive, of one team or of all, are in the log again as they were: same positions, versions, bytes, hashes.

    Repeating it changes nothing. Their claims are in the log again as well.
    Raises: ArchiveDamaged when a file is not the one that was written, by its name; ArchiveRefused for an archive of another
    ledger; ParquetMissing; psycopg.OperationalError.
    """
    listed = read_manifest(manifest)
    if listed.shards != shards.count or listed.shard >= shards.count:
        raise ArchiveRefused(
            f"{manifest} is of shard {listed.shard} of {listed.shards}; this ledger has {shards.count} shards"
        )
    with _archiver(shards, listed.shard) as connection:
        return _Restoring(connection, manifest, listed, sizes or Sizes(), progress).run(team_id)


@contextmanager
def _archiver(shards: ShardMap, shard: int) -> Iterator[Connection]:
    """A connection that alone archives or restores the shard; its statements may take long. Raises: ArchiveRefused.

    Waits a little for another one: the server needs a moment to see that a process died, and to give up what it held.
    """
    with shards.own_connection_for(
        shard, "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    ) as connection:
        connection.autocommit = True
        deadline = monotonic() + ALONE_SECONDS_MAX
        while not _is_alone(connection, shard):
            if monotonic() > deadline:
                raise ArchiveRefused(
                    f"another process archives or restores shard {shard}: wait for it, or end it"
                )
            sleep(ALONE_LOOK_SECONDS)
        yield connection


def _is_alone(connection: Connection, shard: int) -> bool:
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"coffer archive {shard}",)
    ).fetchone()
    return row is not None and bool(row[0])


def _check_closed(connection: Connection, before: datetime) -> None:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    latest = row[0] - PERIOD_MAX - LATE_GRACE
    if before > latest:
        raise ArchiveRefused(
            f"before {instant_text(before)} is within an open period or late grace: at most {instant_text(latest)}"
            " would be right"
        )


class _Part(NamedTuple):
    """The part of one stream that goes into an archive."""

    team_id: str
    stream_id: UUID
    first_version: int
    last_version: int


class _Archiving:
    """One shard's archives, in order of their months."""

    def __init__(
        self,
        connection: Connection,
        shards: int,
        shard: int,
        directory: Path,
        sizes: Sizes,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._shards = shards
        self._shard = shard
        self._directory = directory
        self._sizes = sizes
        self._progress = progress

    def run(self, before: datetime, again: bool) -> list[Archived]:
        """What was begun is finished, and what may leave has left."""
        told = [self._finish(each) for each in self._begun(again)]
        while (month := self._next_month(before)) is not None:
            told.append(self._finish(self._write(*month)))
        return told

    # --- what there is to do ---

    def _begun(self, again: bool) -> list[Archived]:
        statuses = ["written", "verified", *(["restored"] if again else [])]
        rows = self._connection.execute(
            "SELECT shard, month, status, manifest, first_position, last_position FROM archive"
            " WHERE shard = %s AND status = ANY(%s) ORDER BY first_position",
            (self._shard, statuses),
        ).fetchall()
        return [Archived(*row) for row in rows]

    def _next_month(self, before: datetime) -> tuple[str, int, int] | None:
        """The month to archive next, with the positions that it takes; None when nothing old enough is left."""
        row = self._connection.execute(
            "SELECT coalesce(max(a.last_position), 0), max(a.month), (SELECT position FROM shard_log WHERE shard = %s)"
            " FROM archive AS a WHERE a.shard = %s",
            (self._shard, self._shard),
        ).fetchone()
        assert row is not None
        through, latest, last = row
        if last is None or last == through:
            return None
        month = month_of(self._recorded_at(through + 1))
        if latest is not None and month <= latest:
            month = month_of(month_end(latest))
        end = month_end(month)
        if end > before:
            return None
        return month, through + 1, self._last_before(end, through + 1, last)

    def _last_before(self, end: datetime, first: int, last: int) -> int:
        """The last position before one that was recorded at ``end`` or later; halving finds it, at least ``first``."""
        by_then, beyond = first, last + 1
        while beyond - by_then > 1:
            middle = (by_then + beyond) // 2
            if self._recorded_at(middle) < end:
                by_then = middle
            else:
                beyond = middle
        return by_then

    def _recorded_at(self, position: int) -> datetime:
        row = self._connection.execute(
            "SELECT state FROM ledger_events WHERE shard = %s AND position = %s", (self._shard, position)
        ).fetchone()
        if row is None:
            raise ArchiveRefused(f"shard {self._shard} has no position {position}: run `coffer verify`")
        return recorded_at_of(row[0])

    def _check_taken(self, month: str, last: int) -> None:
        """Whoever reads the log in order has read these events. Raises: ArchiveRefused."""
        # Of relays the one that came furthest counts: others sent to topics that are no more.
        row = self._connection.execute(
            "SELECT projection, position FROM (SELECT projection, position FROM tracking WHERE shard = %(shard)s"
            " AND projection NOT LIKE 'relay%%' UNION ALL SELECT 'relay', max(position) FROM tracking WHERE shard = %(shard)s"
            " AND projection LIKE 'relay%%') AS reader WHERE position < %(last)s LIMIT 1",
            {"shard": self._shard, "last": last},
        ).fetchone()
        if row is not None:
            raise ArchiveRefused(
                f"{row[0]} stands at position {row[1]} of shard {self._shard} and {month} ends at {last}: let it catch up first"
            )

    # --- written ---

    def _write(self, month: str, first: int, last: int) -> Archived:
        """The events at these positions are in files, and the archive is on file as written."""
        self._check_taken(month, last)
        self._progress(f"shard {self._shard}, {month}: writing {last - first + 1} events")
        # A directory of its own for each attempt: what another ledger, or a copy of this one, wrote is never written over.
        name = f"{month}-{token_hex(4)}"
        directory = (self._directory / f"shard-{self._shard:04d}" / name).absolute()
        writer = ArchiveWriter(
            directory, group_events=self._sizes.group_events, file_events_max=self._sizes.file_events_max
        )
        parts = self._parts(first, last)
        chains = Chains(self._hash_before)
        streams: list[StreamPart] = []
        for part, events in self._events(parts):
            streams.append(_write_part(writer, chains, part, events))
        hit("archive.before_manifest")
        manifest = writer.close(
            lambda files: Manifest(
                FORMAT,
                self._shards,
                self._shard,
                month,
                first,
                last,
                sum(each.rows for each in files),
                instant_text(datetime.now(UTC)),
                files,
                streams,
            )
        )
        hit("archive.after_files")
        with self._connection.transaction():
            self._put_on_file(month, first, last, directory / MANIFEST, sha256(manifest).digest(), streams)
        log.info(
            "archive_written",
            shard=self._shard,
            month=month,
            events=last - first + 1,
            files=len(writer.files),
        )
        return Archived(self._shard, month, "written", str(directory / MANIFEST), first, last)

    def _parts(self, first: int, last: int) -> list[_Part]:
        """The parts of streams at these positions, by team. Raises: ArchiveRefused where the log is not whole."""
        rows = self._connection.execute(
            "SELECT coalesce(h.team_id, t.team_id, w.team_id, i.issuer_id), e.* FROM ("
            " SELECT originator_id, min(originator_version), max(originator_version), count(*) FROM ledger_events"
            " WHERE shard = %(shard)s AND position BETWEEN %(first)s AND %(last)s GROUP BY originator_id) AS e"
            " LEFT JOIN account_head h ON h.shard = %(shard)s AND h.account_id = e.originator_id"
            " LEFT JOIN team_head t ON t.shard = %(shard)s AND t.stream_id = e.originator_id"
            " LEFT JOIN work_head w ON w.shard = %(shard)s AND w.stream_id = e.originator_id"
            " LEFT JOIN issuer_head i ON i.shard = %(shard)s AND i.stream_id = e.originator_id",
            {"shard": self._shard, "first": first, "last": last},
        ).fetchall()
        for team_id, stream_id, least, greatest, count in rows:
            if team_id is None or count != greatest - least + 1:
                raise ArchiveRefused(f"stream {stream_id} is not whole: run `coffer verify`")
        found = sum(row[4] for row in rows)
        if found != last - first + 1:
            raise ArchiveRefused(
                f"shard {self._shard} has {found} events at positions {first} to {last}: run `coffer verify`"
            )
        # By bytes of the team id, as PostgreSQL and Parquet order it.
        return sorted(
            (_Part(*row[:4]) for row in rows), key=lambda part: (part.team_id.encode(), part.stream_id)
        )

    def _events(
        self, parts: Sequence[_Part]
    ) -> Iterator[tuple[_Part, Iterator[tuple[ArchivedEvent, bytes, bytes]]]]:
        """Each part with its events and the hashes that they have in the log; many small ones are read together."""
        for together in _together(parts, self._sizes.chunk_events):
            by_stream = {part.stream_id: part for part in together}
            with self._connection.transaction(), self._connection.cursor("events") as cursor:
                cursor.itersize = self._sizes.chunk_events
                cursor.format = psycopg.pq.Format.BINARY
                cursor.execute(
                    "SELECT e.originator_id, e.originator_version, e.position, e.topic, e.state, uuid_send(e.usage_key),"
                    " e.previous_hash, e.hash FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) WITH ORDINALITY"
                    " AS n (stream_id, first, last, place) CROSS JOIN LATERAL (SELECT * FROM ledger_events AS own"
                    " WHERE own.shard = %s AND own.originator_id = n.stream_id"
                    " AND own.originator_version BETWEEN n.first AND n.last) AS e ORDER BY n.place, e.originator_version"
                    if len(together) > 1
                    else "SELECT originator_id, originator_version, position, topic, state, uuid_send(usage_key),"
                    " previous_hash, hash FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS n (stream_id, first, last)"
                    " JOIN ledger_events ON shard = %s AND originator_id = stream_id"
                    " AND originator_version BETWEEN first AND last"
                    " ORDER BY originator_version",
                    (
                        [part.stream_id for part in together],
                        [part.first_version for part in together],
                        [part.last_version for part in together],
                        self._shard,
                    ),
                )
                for stream_id, rows in groupby(cursor, key=lambda row: row[0]):
                    part = by_stream[stream_id]
                    yield part, (_archived(part.team_id, row) for row in rows)

    def _hash_before(self, event: ArchivedEvent) -> bytes:
        """The hash that the first event of a part follows: of the archive before, or of nothing."""
        if event.version == 1:
            return GENESIS
        row = self._connection.execute(
            "SELECT last_hash FROM archive_stream WHERE shard = %s AND stream_id = %s AND last_version = %s",
            (self._shard, event.stream_id, event.version - 1),
        ).fetchone()
        if row is None:
            raise ArchiveRefused(
                f"team {event.team_id!r}: no archive ends at version {event.version - 1}: run `coffer verify`"
            )
        return bytes(row[0])

    def _put_on_file(
        self, month: str, first: int, last: int, manifest: Path, digest: bytes, streams: Sequence[StreamPart]
    ) -> None:
        self._connection.execute(
            "INSERT INTO archive (shard, month, first_position, last_position, manifest, manifest_digest)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (self._shard, month, first, last, str(manifest), digest),
        )
        with (
            self._connection.cursor() as cursor,
            cursor.copy(
                "COPY archive_stream (shard, stream_id, first_version, last_version, gone_after, gone_through, month, team_id,"
                " last_hash) FROM STDIN"
            ) as copy,
        ):
            for each in streams:
                before = each.first_version - 1
                copy.write_row(
                    (
                        self._shard,
                        UUID(each.stream_id),
                        each.first_version,
                        each.last_version,
                        before,
                        before,
                        month,
                        each.team_id,
                        bytes.fromhex(each.last_hash),
                    )
                )

    # --- verified, removed ---

    def _finish(self, found: Archived) -> Archived:
        """The archive is verified, and its events have left the log."""
        if found.status in {"written", "restored"}:
            self._verify(found)
        hit("archive.after_verified")
        removed = self._remove(found)
        with self._connection.transaction():
            self._connection.execute(
                "UPDATE archive SET status = 'removed', removed_at = now() WHERE shard = %s AND month = %s",
                (self._shard, found.month),
            )
        log.info("archive_removed", shard=self._shard, month=found.month, events=removed)
        return msgspec.structs.replace(found, status="removed", removed=removed)

    def _verify(self, found: Archived) -> None:
        """The files were read back and hold every event at these positions, as it was written.

        Raises: ArchiveDamaged; one of which nothing has left is forgotten, so that the next run writes it anew.
        """
        self._progress(f"shard {self._shard}, {found.month}: reading back {found.events} events")
        path = Path(found.manifest)
        row = self._connection.execute(
            "SELECT manifest_digest FROM archive WHERE shard = %s AND month = %s", (self._shard, found.month)
        ).fetchone()
        assert row is not None
        try:
            check_archive(path, bytes(row[0]))
        except ArchiveDamaged:
            if found.status == "written":
                self._forget(found.month)
            raise
        self._connection.execute(
            "UPDATE archive SET status = 'verified', verified_at = now() WHERE shard = %s AND month = %s",
            (self._shard, found.month),
        )

    def _forget(self, month: str) -> None:
        with self._connection.transaction():
            self._connection.execute(
                "DELETE FROM archive_stream WHERE shard = %s AND month = %s", (self._shard, month)
            )
            self._connection.execute(
                "DELETE FROM archive WHERE shard = %s AND month = %s", (self._shard, month)
            )

    def _remove(self, found: Archived) -> int:
        """The events have left the log, a chunk a transaction, and their claims are kept; returns how many left now."""
        removed = 0
        while chunk := self._chunk(found.month):
            with self._connection.transaction():
                row = self._connection.execute(
                    "SELECT remove_archived(%s, %s, %s, %s, %s)",
                    (self._shard, *([list(column) for column in zip(*chunk, strict=True)])),
                ).fetchone()
                assert row is not None
                asked = sum(upto - after for _, _, after, upto in chunk)
                if row[0] != asked:
                    raise ArchiveRefused(
                        f"shard {self._shard}, {found.month}: of {asked} events that were to leave {row[0]} were in the log:"
                        " run `coffer verify`"
                    )
                removed += asked
                hit("archive.before_removed")
            hit("archive.after_removed")
            self._progress(f"shard {self._shard}, {found.month}: {removed} events left")
        return removed

    def _chunk(self, month: str) -> list[tuple[UUID, int, int, int]]:
        """Parts of streams that leave next: stream, first version of its part, the version before and the last to leave."""
        rows = self._connection.execute(
            "SELECT stream_id, first_version, last_version, gone_after, gone_through FROM archive_stream"
            " WHERE shard = %s AND month = %s"
            " AND (gone_after = gone_through OR gone_after >= first_version OR gone_through < last_version)"
            " ORDER BY team_id, stream_id LIMIT %s",
            (self._shard, month, STREAMS_TOGETHER),
        ).fetchall()
        chunk: list[tuple[UUID, int, int, int]] = []
        left = self._sizes.chunk_events
        for stream_id, first, last, after, through in rows:
            if left == 0:
                break
            begin, end = _next_to_leave(first, last, after, through, left)
            left -= end - begin
            chunk.append((stream_id, first, begin, end))
        return chunk


def _next_to_leave(first: int, last: int, after: int, through: int, most: int) -> tuple[int, int]:
    """The versions, beyond the one and up to the other, that leave next; they border on what is gone, if anything is."""
    if after == through:
        return first - 1, min(last, first - 1 + most)
    if after >= first:
        return max(first - 1, after - most), after
    return through, min(last, through + most)


def _together(parts: Sequence[_Part], events_max: int) -> Iterator[list[_Part]]:
    """The parts in their order, small ones together, a large one by itself."""
    together: list[_Part] = []
    events = 0
    for part in parts:
        own = part.last_version - part.first_version + 1
        if together and (events + own > events_max or len(together) >= STREAMS_TOGETHER):
            yield together
            together, events = [], 0
        together.append(part)
        events += own
    if together:
        yield together


def _archived(team_id: str, row: TupleRow) -> tuple[ArchivedEvent, bytes, bytes]:
    stream_id, version, position, topic, state, claim, previous_hash, own_hash = row
    return ArchivedEvent(team_id, stream_id, version, position, topic, state, claim), previous_hash, own_hash


def _write_part(
    writer: ArchiveWriter, chains: Chains, part: _Part, events: Iterator[tuple[ArchivedEvent, bytes, bytes]]
) -> StreamPart:
    """The part's events are written, each as its chain says. Raises: ArchiveRefused where the log says otherwise."""
    first = last = None
    for event, previous_hash, own_hash in events:
        last = chains.follow(event)
        first = first or last
        if (last.previous_hash, last.hash) != (previous_hash, own_hash):
            raise ArchiveRefused(
                f"team {part.team_id!r}, version {event.version}: its hash in the log is not that of its bytes:"
                " run `coffer verify`"
            )
        writer.add(last)
    assert first is not None
    assert last is not None
    return StreamPart(
        part.team_id,
        part.stream_id.hex,
        part.first_version,
        part.last_version,
        first.previous_hash.hex(),
        last.hash.hex(),
    )


def check_archive(path: Path, digest: bytes) -> Manifest:
    """The archive was read whole: sums, rows, chains and positions are those of its manifest. Raises: ArchiveDamaged."""
    manifest = read_manifest(path, digest)
    chains = chained_parts(manifest)
    ends = {(part.stream_id, part.last_version): part.last_hash for part in manifest.streams}
    seen = bytearray(manifest.last_position - manifest.first_position + 1)
    for file in manifest.files:
        check_file(path.parent, file)
        _check_rows(path.parent, file, chains, ends, seen, manifest)
    if ends or not all(seen):
        raise ArchiveDamaged(
            f"{path}: {len(ends)} streams do not end as the manifest says, {seen.count(0)} positions are missing"
        )
    return manifest


def _check_rows(
    directory: Path,
    file: FilePart,
    chains: Chains,
    ends: dict[tuple[str, int], str],
    seen: bytearray,
    manifest: Manifest,
) -> None:
    rows, digest = 0, sha256()
    for event in read_file(directory, file):
        chained = chains.follow(event)
        rows += 1
        digest.update(row_digest(chained))
        if ends.get((event.stream_id.hex, event.version)) == chained.hash.hex():
            del ends[event.stream_id.hex, event.version]
        if not manifest.first_position <= event.position <= manifest.last_position:
            raise ArchiveDamaged(
                f"{directory / file.name}: position {event.position} is none of this archive"
            )
        seen[event.position - manifest.first_position] = 1
    if (rows, digest.hexdigest()) != (file.rows, file.rows_sha256):
        raise ArchiveDamaged(
            f"{directory / file.name}: its {rows} rows are not the {file.rows} that were in the database"
        )


class _Restoring:
    """One archive on its way back."""

    def __init__(
        self, connection: Connection, path: Path, manifest: Manifest, sizes: Sizes, progress: Progress
    ) -> None:
        self._connection = connection
        self._path = path.absolute()
        self._manifest = manifest
        self._shard = manifest.shard
        self._sizes = sizes
        self._progress = progress

    def run(self, team_id: str | None) -> Restored:
        """What is gone, of the team or of all, is back."""
        row = self._connection.execute(
            "SELECT manifest_digest FROM archive WHERE shard = %s AND month = %s",
            (self._shard, self._manifest.month),
        ).fetchone()
        if row is None:
            raise ArchiveRefused(
                f"this ledger archived nothing of shard {self._shard} in {self._manifest.month}: {self._path} is another's"
            )
        manifest = read_manifest(self._path, bytes(row[0]))
        if team_id is not None and all(part.team_id != team_id for part in manifest.streams):
            raise ArchiveRefused(f"{self._path} holds nothing of team {team_id[:128]!r}")
        files = [
            file
            for file in manifest.files
            if team_id is None or file.first_team.encode() <= team_id.encode() <= file.last_team.encode()
        ]
        # All of them before anything is written: half a restore is no restore.
        for file in files:
            check_file(self._path.parent, file)
        wanted = self._wanted(team_id)
        restored = self._restore(files, wanted, team_id) if wanted else 0
        log.info(
            "archive_restored", shard=self._shard, month=manifest.month, events=restored, team_id=team_id
        )
        return Restored(self._shard, manifest.month, restored, len(wanted))

    def _wanted(self, team_id: str | None) -> dict[tuple[UUID, int], tuple[int, int]]:
        """What is gone of each part: by stream and first version, the version before and the last one."""
        rows = self._connection.execute(
            "SELECT stream_id, first_version, gone_after, gone_through FROM archive_stream WHERE shard = %s AND month = %s"
            " AND gone_through > gone_after AND (%s::text IS NULL OR team_id = %s)",
            (self._shard, self._manifest.month, team_id, team_id),
        ).fetchall()
        return {(stream_id, first): (after, through) for stream_id, first, after, through in rows}

    def _restore(
        self, files: Sequence[FilePart], wanted: dict[tuple[UUID, int], tuple[int, int]], team_id: str | None
    ) -> int:
        with self._connection.transaction():
            self._connection.execute(
                "UPDATE archive SET status = 'restored', manifest = %s WHERE shard = %s AND month = %s",
                (str(self._path), self._shard, self._manifest.month),
            )
        chains, restored = chained_parts(self._manifest), 0
        chunk: list[ChainedEvent] = []
        spans = {stream_id: span for (stream_id, _), span in wanted.items()}
        for file in files:
            for event in read_file(self._path.parent, file, team_id):
                chained = chains.follow(event)
                after, through = spans.get(event.stream_id, (0, 0))
                if after < event.version <= through:
                    chunk.append(chained)
                if len(chunk) >= self._sizes.chunk_events:
                    restored += self._put_back(chunk)
                    chunk = []
        restored += self._put_back(chunk)
        asked = sum(through - after for after, through in spans.values())
        if restored != asked:
            raise ArchiveDamaged(f"{self._path}: of {asked} events that are gone it holds {restored}")
        return restored

    def _put_back(self, chunk: Sequence[ChainedEvent]) -> int:
        """The events are in the log, their claims with them, and the archive says so: one transaction."""
        if not chunk:
            return 0
        with self._connection.transaction():
            self._copy(chunk)
            claims = [each.event.claim for each in chunk if each.event.claim is not None]
            self._connection.execute(
                "DELETE FROM archived_claim WHERE shard = %s AND usage_key = ANY(%s)",
                (self._shard, [UUID(bytes=claim) for claim in claims]),
            )
            for stream_id, events in groupby(chunk, key=attrgetter("event.stream_id")):
                versions = [each.event.version for each in events]
                self._move(stream_id, versions[0], versions[-1])
            hit("restore.before_commit")
        hit("restore.after_commit")
        self._progress(f"shard {self._shard}, {self._manifest.month}: {len(chunk)} events more are back")
        return len(chunk)

    def _move(self, stream_id: UUID, first: int, last: int) -> None:
        """Versions up to ``last`` are gone no more; a part of which nothing is gone is as it was when written."""
        moved = self._connection.execute(
            "UPDATE archive_stream SET gone_after = CASE WHEN gone_through = %(last)s THEN first_version - 1 ELSE %(last)s END,"
            " gone_through = CASE WHEN gone_through = %(last)s THEN first_version - 1 ELSE gone_through END"
            " WHERE shard = %(shard)s AND stream_id = %(stream)s AND month = %(month)s AND gone_after = %(first)s - 1",
            {
                "shard": self._shard,
                "stream": stream_id,
                "month": self._manifest.month,
                "first": first,
                "last": last,
            },
        )
        assert moved.rowcount == 1, f"stream {stream_id} is not archived up to version {first - 1}"

    def _copy(self, chunk: Sequence[ChainedEvent]) -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(
                "COPY ledger_events (shard, originator_id, originator_version, position, topic, state, usage_key,"
                " previous_hash, hash) FROM STDIN (FORMAT BINARY)"
            ) as copy,
        ):
            copy.set_types(["int4", "uuid", "int8", "int8", "text", "bytea", "uuid", "bytea", "bytea"])
            for event, previous_hash, own_hash in chunk:
                copy.write_row(
                    (
                        self._shard,
                        event.stream_id,
                        event.version,
                        event.position,
                        event.topic,
                        event.state,
                        None if event.claim is None else UUID(bytes=event.claim),
                        previous_hash,
                        own_hash,
                    )
                )
