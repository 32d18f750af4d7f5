"""Archived events read back from their files, for whoever compares everything: beside those in the log, in the same order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import TupleRow

from infra.postgres.archive_files import (
    ArchiveDamaged,
    ArchivedEvent,
    FilePart,
    Manifest,
    ParquetMissing,
    chained_parts,
    check_file,
    groups_of,
    read_group,
    read_manifest,
)
from infra.postgres.archived import Gone, gone
from infra.postgres.heads import owner_mark
from projections.verify import Finding

GROUPS_KEPT_MAX = 8
"""Groups of rows kept in memory: teams are asked for in an order close to that of the files."""

CLAIMS_TOGETHER = 2_000


class _Usage(msgspec.Struct):
    """Of an archived event, what its claim keeps."""

    content_digest: str = ""


_decode_usage = msgspec.json.Decoder(_Usage).decode


class _Group(NamedTuple):
    file: FilePart
    number: int
    first_team: str
    last_team: str


class _Opened(NamedTuple):
    """An archive that is as it was written."""

    directory: Path
    manifest: Manifest
    groups: list[_Group]


class ArchiveReading:
    """The archives of one shard, each checked byte for byte when it is first needed; what is wrong is among the findings."""

    def __init__(self, connection: psycopg.Connection[TupleRow], shard: int) -> None:
        self._connection = connection
        self._shard = shard
        self._opened: dict[str, _Opened | None] = {}
        self._groups: OrderedDict[tuple[str, str, int], list[ArchivedEvent]] = OrderedDict()
        self._claims: list[tuple[ArchivedEvent, bytes]] = []
        self._claims_seen = 0
        self.findings: list[Finding] = []

    def gone(self, streams: Sequence[UUID]) -> dict[UUID, list[Gone]]:
        """What of these streams only archives hold, by stream."""
        found: dict[UUID, list[Gone]] = {}
        for part in gone(self._connection, self._shard, streams):
            found.setdefault(part.stream_id, []).append(part)
        return found

    def is_readable(self, parts: Sequence[Gone]) -> bool:
        """Whether the archives of these parts are as they were written; one that is not is among the findings."""
        return all(self._archive(part) is not None for part in parts)

    def rows(self, parts: dict[UUID, list[Gone]]) -> Iterator[TupleRow]:
        """The events of these parts by stream and version, as rows of the log: stream, version, position, topic, state, claim,
        hash before, own hash.
        """
        for stream_id in sorted(parts):
            for part in parts[stream_id]:
                yield from self._part(part)
        self._check_claims()

    def check_count(self) -> None:
        """There are no more claims of archived events than archived events that claim; asked when all of them were read."""
        row = self._connection.execute(
            "SELECT count(*) FROM archived_claim WHERE shard = %s", (self._shard,)
        ).fetchone()
        assert row is not None
        if row[0] != self._claims_seen and all(self._opened.values()):
            self._find("archived_claim", None, None, "rows", self._claims_seen, row[0])

    def _part(self, part: Gone) -> Iterator[TupleRow]:
        opened = self._archive(part)
        if opened is None:
            return
        chains = chained_parts(opened.manifest)
        for event in self._events(opened, part):
            chained = chains.follow(event)
            if not part.after < event.version <= part.through:
                continue
            if event.claim is not None:
                self._keep_claim(event, event.claim)
            yield (
                event.stream_id,
                event.version,
                event.position,
                event.topic,
                event.state,
                event.claim,
                chained.previous_hash,
                chained.hash,
            )

    def _events(self, opened: _Opened, part: Gone) -> Iterator[ArchivedEvent]:
        """The events of the part's stream, from the first that the archive holds."""
        team = part.team_id.encode()
        for group in opened.groups:
            if group.first_team.encode() <= team <= group.last_team.encode():
                events = self._group(part.month, opened, group)
                yield from (event for event in events if event.stream_id == part.stream_id)

    def _group(self, month: str, opened: _Opened, group: _Group) -> list[ArchivedEvent]:
        key = (month, group.file.name, group.number)
        if key not in self._groups:
            self._groups[key] = read_group(opened.directory, group.file, group.number)
            if len(self._groups) > GROUPS_KEPT_MAX:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _archive(self, part: Gone) -> _Opened | None:
        if part.month not in self._opened:
            try:
                self._opened[part.month] = self._checked(part)
            except (ArchiveDamaged, ParquetMissing) as error:
                self._opened[part.month] = None
                self._find("archive", None, None, part.month, "the files that were written", error.detail)
        return self._opened[part.month]

    def _checked(self, part: Gone) -> _Opened:
        row = self._connection.execute(
            "SELECT manifest_digest FROM archive WHERE shard = %s AND month = %s", (self._shard, part.month)
        ).fetchone()
        assert row is not None, f"shard {self._shard} has no archive of {part.month}"
        path = Path(part.manifest)
        manifest = read_manifest(path, bytes(row[0]))
        groups: list[_Group] = []
        for file in manifest.files:
            check_file(path.parent, file)
            bounds = groups_of(path.parent, file)
            groups += [_Group(file, number, *teams) for number, teams in enumerate(bounds)]
        return _Opened(path.parent, manifest, groups)

    def _keep_claim(self, event: ArchivedEvent, claim: bytes) -> None:
        self._claims.append((event, claim))
        self._claims_seen += 1
        if len(self._claims) >= CLAIMS_TOGETHER:
            self._check_claims()

    def _check_claims(self) -> None:
        """Every archived event that claims something has its claim on file, as it was made."""
        if not self._claims:
            return
        found: dict[UUID, tuple[Any, ...]] = {
            row[0]: row[1:]
            for row in self._connection.execute(
                "SELECT usage_key, originator_version, owner, content FROM archived_claim"
                " WHERE shard = %s AND usage_key = ANY(%s)",
                (self._shard, [UUID(bytes=claim) for _, claim in self._claims]),
            )
        }
        for event, claim in self._claims:
            digest = _decode_usage(event.state).content_digest
            right = (event.version, owner_mark(event.stream_id), UUID(digest[:32]) if digest else None)
            stated = found.get(UUID(bytes=claim))
            if stated != right:
                self._find("archived_claim", event.team_id, event.version, claim.hex(), right, stated)
        self._claims = []

    def _find(
        self, table: str, team_id: str | None, version: int | None, what: str, expected: object, found: object
    ) -> None:
        self.findings.append(
            Finding(
                table=table,
                shard=self._shard,
                team_id=team_id,
                version=version,
                what=what,
                expected=str(expected),
                found="none" if found is None else str(found),
            )
        )
