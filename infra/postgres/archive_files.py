"""An archive on disk: Parquet files of events, a manifest that says what is in them, and sums that any program can check.

Rows are in order of team, stream and version. Hashes are not stored: each follows from the one before and the row itself, and the
manifest has those at both ends of every stream's part. A file whose sum is not the manifest's is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.chain import event_hash
from domain.errors import Refused

FORMAT = "coffer archive 1"
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
GROUP_EVENTS = 5_000
"""Rows that are compressed together, and read together when one team is looked for."""

FILE_EVENTS_MAX = 500_000
COMPRESSION_LEVEL = 9
_READ_BYTES = 1 << 20


class ArchiveDamaged(Refused):
    """A file of an archive is missing, or is not the one that was written."""

    code = "archive_damaged"


class ParquetMissing(Refused):
    """The library that reads and writes Parquet is not installed."""

    code = "parquet_missing"


class StreamPart(msgspec.Struct, frozen=True):
    """The part of one stream that an archive holds: its versions, and the hashes before the first and of the last."""

    team_id: str
    stream_id: str
    first_version: int
    last_version: int
    previous_hash: str
    last_hash: str


class FilePart(msgspec.Struct, frozen=True):
    """One file: its rows, the least and greatest position among them, the teams it begins and ends with, and its sum.

    ``rows_sha256`` is the sum over position, claim and hash of every row, in the order of the rows: what was in the database.
    """

    name: str
    rows: int
    first_position: int
    last_position: int
    first_team: str
    last_team: str
    bytes: int
    sha256: str
    rows_sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an archive holds: the events of one shard at these positions, every one of them."""

    format: str
    shards: int
    shard: int
    month: str
    first_position: int
    last_position: int
    events: int
    written_at: str
    files: list[FilePart]
    streams: list[StreamPart]


class ArchivedEvent(NamedTuple):
    """A row of the log as an archive keeps it."""

    team_id: str
    stream_id: UUID
    version: int
    position: int
    topic: str
    state: bytes
    claim: bytes | None


class ChainedEvent(NamedTuple):
    """An archived event with the hashes that its stream's chain gives it."""

    event: ArchivedEvent
    previous_hash: bytes
    hash: bytes


class Chains:
    """Hashes of archived events, stream by stream, from the hash before each part's first one."""

    def __init__(self, before: Callable[[ArchivedEvent], bytes]) -> None:
        self._before = before
        self._last: tuple[UUID, int, bytes] | None = None

    def follow(self, event: ArchivedEvent) -> ChainedEvent:
        """The event with its hashes; events of a stream come in order and without a gap. Raises: ArchiveDamaged."""
        last = self._last
        if last is not None and last[0] == event.stream_id:
            if event.version != last[1] + 1:
                raise ArchiveDamaged(
                    f"team {event.team_id!r}: version {event.version} follows {last[1]} in the archive, which leaves some out"
                )
            previous = last[2]
        else:
            previous = self._before(event)
        own = event_hash(previous, event.stream_id.bytes, event.version, event.topic, event.state)
        self._last = (event.stream_id, event.version, own)
        return ChainedEvent(event, previous, own)


class ArchiveWriter:
    """Writes the events of one archive as they come, a group of rows at a time, so that any number fits."""

    def __init__(
        self, directory: Path, *, group_events: int = GROUP_EVENTS, file_events_max: int = FILE_EVENTS_MAX
    ) -> None:
        self._directory = directory
        self._group_events = group_events
        self._file_events_max = file_events_max
        self._rows: list[ArchivedEvent] = []
        self._open: _OpenFile | None = None
        self.files: list[FilePart] = []
        directory.mkdir(parents=True)

    def add(self, chained: ChainedEvent) -> None:
        """The event is among those of the file that is written now."""
        if self._open is None:
            self._open = _OpenFile(self._directory / f"events-{len(self.files) + 1:05d}.parquet")
        self._open.count(chained)
        self._rows.append(chained.event)
        if len(self._rows) >= self._group_events:
            self._write_group()
            if self._open.rows >= self._file_events_max:
                self._close_file()

    def close(self, manifest: Callable[[list[FilePart]], Manifest]) -> bytes:
        """Files, manifest and sums are on disk for good; returns the bytes of the manifest."""
        if self._rows:
            self._write_group()
        if self._open is not None:
            self._close_file()
        written = msgspec.json.format(msgspec.json.encode(manifest(self.files)), indent=1) + b"\n"
        sums = [(each.sha256, each.name) for each in self.files] + [(sha256(written).hexdigest(), MANIFEST)]
        _write_for_good(self._directory / MANIFEST, written)
        text = "".join(f"{digest}  {name}\n" for digest, name in sums)
        _write_for_good(self._directory / SUMS, text.encode())
        _sync_directory(self._directory)
        return written

    def _write_group(self) -> None:
        assert self._open is not None
        self._open.write(self._rows)
        self._rows = []

    def _close_file(self) -> None:
        assert self._open is not None
        self.files.append(self._open.close())
        self._open = None


class _OpenFile:
    """One Parquet file while it is written, and what the manifest will say of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = parquet().ParquetWriter(
            path,
            _schema(),
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=["team_id", "stream_id", "topic"],
            write_statistics=["team_id", "position"],
        )
        self._rows_digest = sha256()
        self._positions = (2**63, 0)
        self._teams: tuple[str, str] | None = None
        self.rows = 0

    def count(self, chained: ChainedEvent) -> None:
        """The event is in the sums of the file."""
        event = chained.event
        self.rows += 1
        low, high = self._positions
        self._positions = (min(low, event.position), max(high, event.position))
        self._teams = (self._teams[0] if self._teams else event.team_id, event.team_id)
        self._rows_digest.update(row_digest(chained))

    def write(self, rows: list[ArchivedEvent]) -> None:
        """The rows are one group of the file."""
        arrow = _arrow()
        columns = list(zip(*rows, strict=True))
        columns[1] = tuple(stream.bytes for stream in columns[1])
        arrays = [
            arrow.array(column, type=field.type) for column, field in zip(columns, _schema(), strict=True)
        ]
        self._writer.write_table(
            arrow.Table.from_arrays(arrays, schema=_schema()), row_group_size=len(rows) or 1
        )

    def close(self) -> FilePart:
        """The file is whole and on disk."""
        self._writer.close()
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        assert self._teams is not None, "a file has rows"
        return FilePart(
            self._path.name,
            self.rows,
            *self._positions,
            *self._teams,
            self._path.stat().st_size,
            sum_of(self._path),
            self._rows_digest.hexdigest(),
        )


def row_digest(chained: ChainedEvent) -> bytes:
    """What of a row goes into the sum over the rows of a file; the hash stands for stream, version, topic and state."""
    return chained.event.position.to_bytes(8, "big") + (chained.event.claim or bytes(16)) + chained.hash


def read_manifest(path: Path, digest: bytes | None = None) -> Manifest:
    """The manifest in the file, which is the one of that SHA-256. Raises: ArchiveDamaged."""
    try:
        written = path.read_bytes()
    except OSError as error:
        raise ArchiveDamaged(f"the manifest {path} cannot be read: {error.strerror or error}") from error
    own = sha256(written).digest()
    if digest is not None and own != digest:
        raise ArchiveDamaged(
            f"the manifest {path} is not the one that was written: its SHA-256 is {own.hex()}, right would be {digest.hex()}"
        )
    try:
        manifest = msgspec.json.decode(written, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveDamaged(f"{path} is no manifest of an archive: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveDamaged(f"the manifest {path} has the format {manifest.format!r}, not {FORMAT!r}")
    return manifest


def check_file(directory: Path, file: FilePart) -> None:
    """The file is the one that was written, byte for byte. Raises: ArchiveDamaged, by its name."""
    path = directory / file.name
    try:
        found = sum_of(path)
    except OSError as error:
        raise ArchiveDamaged(
            f"the archive's file {path} cannot be read: {error.strerror or error}"
        ) from error
    if found != file.sha256:
        raise ArchiveDamaged(
            f"the archive's file {path} was changed: its SHA-256 is {found}, the manifest says {file.sha256}"
        )


def sum_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def read_file(directory: Path, file: FilePart, team_id: str | None = None) -> Iterator[ArchivedEvent]:
    """The events of a file in their order, those of one team without reading the rest; a group of rows at a time."""
    with parquet().ParquetFile(directory / file.name) as opened:
        for group in range(opened.num_row_groups):
            if team_id is not None and not _may_hold(opened.metadata.row_group(group), team_id):
                continue
            for event in events_of(opened.read_row_group(group)):
                if team_id is None or event.team_id == team_id:
                    yield event


def groups_of(directory: Path, file: FilePart) -> list[tuple[str, str]]:
    """The first and last team of each group of rows of a file."""
    with parquet().ParquetFile(directory / file.name) as opened:
        statistics = [
            opened.metadata.row_group(group).column(0).statistics for group in range(opened.num_row_groups)
        ]
        return [(each.min, each.max) for each in statistics]


def read_group(directory: Path, file: FilePart, group: int) -> list[ArchivedEvent]:
    """The events of one group of rows."""
    with parquet().ParquetFile(directory / file.name) as opened:
        return list(events_of(opened.read_row_group(group)))


def events_of(table: Any) -> Iterable[ArchivedEvent]:
    """The rows of a table as events."""
    columns = [table.column(name).to_pylist() for name in ArchivedEvent._fields]
    columns[1] = [UUID(bytes=stream) for stream in columns[1]]
    return map(ArchivedEvent._make, zip(*columns, strict=True))


def chained_parts(manifest: Manifest) -> Chains:
    """What gives the manifest's events their hashes."""
    before = {(part.stream_id, part.first_version): part.previous_hash for part in manifest.streams}

    def first(event: ArchivedEvent) -> bytes:
        found = before.get((event.stream_id.hex, event.version))
        if found is None:
            raise ArchiveDamaged(
                f"team {event.team_id!r}: version {event.version} begins no part that the manifest names"
            )
        return bytes.fromhex(found)

    return Chains(first)


def _may_hold(group: Any, team_id: str) -> bool:
    statistics = group.column(0).statistics
    return statistics is None or statistics.min <= team_id <= statistics.max


def _schema() -> Any:
    arrow = _arrow()
    return arrow.schema(
        [
            arrow.field("team_id", arrow.string(), nullable=False),
            arrow.field("stream_id", arrow.binary(16), nullable=False),
            arrow.field("version", arrow.int64(), nullable=False),
            arrow.field("position", arrow.int64(), nullable=False),
            arrow.field("topic", arrow.string(), nullable=False),
            arrow.field("state", arrow.binary(), nullable=False),
            arrow.field("claim", arrow.binary(16)),
        ]
    )


def _arrow() -> Any:
    return _imported("pyarrow")


def parquet() -> Any:
    """The library that reads and writes Parquet. Raises: ParquetMissing."""
    return _imported("pyarrow.parquet")


def _imported(name: str) -> ModuleType:
    # Found when it is needed: nobody else carries 165 MB.
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ParquetMissing(
            "archives are Parquet files and pyarrow is not installed: install the extra `archive` of coffer"
        ) from error


def _write_for_good(path: Path, content: bytes) -> None:
    """The file has the content, whole, also after a loss of power."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _sync_directory(directory: Path) -> None:
    """Names of files in the directory, and its own in the one above, are on disk."""
    for each in (directory, directory.parent):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
