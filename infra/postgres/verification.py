"""Reads everything there is and has it compared with a replay: streaming, shard by shard, a few teams at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg import IsolationLevel
from psycopg.rows import TupleRow

from domain.account.events import HoldDenied
from domain.team.state import team_stream_id
from domain.work.texts import salted_digest
from infra.postgres.archive_reading import ArchiveReading
from infra.postgres.archived import Gone
from infra.postgres.invoice_model import InvoiceModel
from infra.postgres.invoices_verification import check_numbers
from infra.postgres.kept_heads import kept_on_file
from infra.postgres.mapper import ACCOUNT_SHAPES, ISSUER_SHAPES, TEAM_SHAPES, WORK_SHAPES
from infra.postgres.payments_verification import check_payments
from infra.postgres.read_models import StatementModel, statement_row
from infra.postgres.shards import ShardMap
from infra.postgres.spending_verification import EventsSeen, check_spending
from projections.invoices import InvoiceRow
from projections.statement import StatementRow
from projections.verify import (
    AccountOnFile,
    Coordinates,
    Finding,
    IssuerOnFile,
    OriginCounts,
    Outcomes,
    PaperworkOnFile,
    StoredEvent,
    StoredHead,
    StoredIssuerHead,
    StoredTeamHead,
    StoredWorkHead,
    WorkOnFile,
    check_account,
    check_issuer,
    check_origins,
    check_team,
    check_work,
)

CHUNK_EVENTS_MAX = 5_000
CHUNK_TEAMS_MAX = 200
FETCH_ROWS = 2_000
FINDINGS_MAX = 1_000
"""After so many findings nothing more is learnt: the check ends and says so."""

Connection = psycopg.Connection[TupleRow]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, and what differs; ``is_complete`` is False when the check ended early, at ``FINDINGS_MAX``.

    Nothing found means: the stored rows agree with each other. It does not say who wrote them.
    """

    teams: int
    events: int
    events_in_log: int
    seconds: float
    findings: list[Finding]
    is_complete: bool = True

    @property
    def is_sound(self) -> bool:
        """Whether nothing differs."""
        return not self.findings


Progress = Callable[[Verified], None]


def verify(
    shards: ShardMap,
    *,
    shard: int | None = None,
    team_id: str | None = None,
    progress: Progress = lambda _: None,
) -> Verified:
    """Compares heads, index, positions, statement and stream records with a replay: of everything, a shard, or a team.

    A team's people and paperwork are compared like its account.

    The ledger may be written meanwhile: each team is read at one instant, and the stream is compared with the events that were
    in the log when its records were read. Records of the stream are compared only when everything is.
    Raises: psycopg.OperationalError.
    """
    return _Verification(shards, progress).run(shard, team_id)


class _Verification:
    """One run: counts what was read and collects what differs."""

    def __init__(self, shards: ShardMap, progress: Progress) -> None:
        self._shards = shards
        self._progress = progress
        self._began = time.monotonic()
        self._teams = 0
        self._events = 0
        self._events_in_log = 0
        self._findings: list[Finding] = []

    def run(self, shard: int | None, team_id: str | None) -> Verified:
        asked = [shard] if shard is not None else list(range(self._shards.count))
        if team_id is not None:
            asked = [self._shards.shard_of(team_id)]
        everything = shard is None and team_id is None
        origins = OriginCounts({})
        accounted: dict[Coordinates, Outcomes] = {}
        with ExitStack() as opened:
            names = self._shards.databases if everything else [self._shards.home_of(asked[0])]
            databases = {name: opened.enter_context(self._reading(name)) for name in names}
            if everything:
                # Where a partition brings records of teams of another database, these are of two instants.
                below: dict[int, int] = {}
                for connection in databases.values():
                    with connection.transaction():
                        below |= _log_positions(connection)
                        accounted |= self._stream(connection)
                origins = OriginCounts(below)
            for each in asked:
                if self._is_enough():
                    break
                self._shard(databases[self._shards.home_of(each)], each, team_id, origins)
            if everything and not self._is_enough():
                self._findings += check_origins(accounted, origins.counts)
        return self._told()

    @contextmanager
    def _reading(self, database: str) -> Iterator[Connection]:
        """A connection that reads at one instant in each transaction."""
        with self._shards.own_connection_to(database) as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.autocommit = True
            yield connection

    def _told(self) -> Verified:
        return Verified(
            teams=self._teams,
            events=self._events,
            events_in_log=self._events_in_log,
            seconds=round(time.monotonic() - self._began, 3),
            findings=self._findings[:FINDINGS_MAX],
            is_complete=not self._is_enough(),
        )

    def _is_enough(self) -> bool:
        return len(self._findings) >= FINDINGS_MAX

    def _shard(self, connection: Connection, shard: int, team_id: str | None, origins: OriginCounts) -> None:
        if team_id is None:
            with connection.transaction():
                self._findings += _check_positions(connection, shard)
                self._findings += _check_strays(connection, shard)
                self._findings += _check_denials(connection, shard)
                self._findings += _check_tracking(connection, shard)
                self._findings += check_numbers(connection, shard)
            self._events_in_log += _log_positions(connection).get(shard, 0)
        archives = ArchiveReading(connection, shard)
        after = ""
        while not self._is_enough():
            with connection.transaction():
                heads = _heads(connection, shard, after, team_id)
                if not heads:
                    break
                self._chunk(connection, archives, shard, heads, origins)
            after = heads[-1].team_id
            self._progress(self._told())
            if team_id is not None:
                break
        if team_id is None and not self._is_enough():
            with connection.transaction():
                self._issuers(connection, archives, shard)
            archives.check_count()
        self._findings += archives.findings

    def _chunk(
        self,
        connection: Connection,
        archives: ArchiveReading,
        shard: int,
        heads: Sequence[StoredHead],
        origins: OriginCounts,
    ) -> None:
        """The accounts of these heads, each with its streams side by side in order of the account's id.

        One with events in an archive that cannot be read is not compared; that archive is among the findings.
        """
        tracked, invoiced = (
            _position_of(connection, shard, model.name) for model in (StatementModel, InvoiceModel)
        )
        entries = _entries(connection, shard, [head.team_id for head in heads])
        kept = kept_on_file(connection, shard, [head.team_id for head in heads])
        accounts = [head.account_id for head in heads]
        gone = archives.gone(accounts)
        events = _Streams(_with_archived(connection, archives, shard, accounts, gone, "events"))
        rows = _Streams(_rows(connection, shard, heads, StatementModel.table, StatementRow._fields))
        invoices = _Streams(_rows(connection, shard, heads, InvoiceModel.table, InvoiceRow._fields))
        seen = EventsSeen()
        for head in sorted(heads, key=lambda head: head.account_id):
            account_id = head.account_id
            if not archives.is_readable(gone.get(account_id, ())):
                continue
            stored = AccountOnFile(
                shard,
                head,
                seen.noted(
                    head.team_id,
                    self._counted(StoredEvent._make(row[1:]) for row in events.of(account_id)),
                ),
                entries.get(head.team_id, {}),
                (statement_row(row[1:]) for row in rows.of(account_id)),
                tracked,
                kept.get(head.team_id),
                (InvoiceRow._make(row[1:]) for row in invoices.of(account_id)),
                invoiced,
            )
            self._findings += check_account(stored, ACCOUNT_SHAPES.decode, origins)
            self._teams += 1
        # Of a team whose statement is wrong itself, nothing is known about its spending here.
        misstated = {found.team_id for found in self._findings if found.team_id is not None}
        self._findings += check_spending(connection, shard, seen.of_teams(misstated))
        self._paperwork(connection, archives, shard, heads)
        self._works(connection, archives, shard, heads)

    def _paperwork(
        self, connection: Connection, archives: ArchiveReading, shard: int, heads: Sequence[StoredHead]
    ) -> None:
        """The people and paperwork of the teams that have these accounts, read at the same instant."""
        streams = {team_stream_id(head.team_id): head.team_id for head in heads}
        found = _team_heads(connection, shard, list(streams.values()))
        gone = archives.gone(list(streams))
        events = _Streams(_with_archived(connection, archives, shard, list(streams), gone, "paperwork"))
        for stream_id, team_id in sorted(streams.items()):
            if not archives.is_readable(gone.get(stream_id, ())):
                continue
            stored = PaperworkOnFile(
                shard,
                team_id,
                found.get(team_id),
                self._counted(StoredEvent._make(row[1:]) for row in events.of(stream_id)),
            )
            self._findings += check_team(stored, TEAM_SHAPES.decode)

    def _works(
        self, connection: Connection, archives: ArchiveReading, shard: int, heads: Sequence[StoredHead]
    ) -> None:
        """The works of the teams that have these accounts, with the texts that are kept of them, read at the same instant."""
        teams = [head.team_id for head in heads]
        found = {head.stream_id: head for head in _work_heads(connection, shard, teams)}
        texts = _work_texts(connection, shard, teams)
        gone = archives.gone(list(found))
        events = _Streams(_with_archived(connection, archives, shard, list(found), gone, "works"))
        for stream_id, head in sorted(found.items()):
            if archives.is_readable(gone.get(stream_id, ())):
                of_stream = self._counted(StoredEvent._make(row[1:]) for row in events.of(stream_id))
                kept = texts.pop((head.team_id, head.work_id), {})
                self._findings += check_work(WorkOnFile(shard, head, of_stream, kept), WORK_SHAPES.decode)

    def _issuers(self, connection: Connection, archives: ArchiveReading, shard: int) -> None:
        """The issuers of the shard: their details, and the numbers of every year."""
        rows = connection.execute(
            "SELECT issuer_id, year, stream_id, version, chain_hash, state, state_schema, recorded_at"
            " FROM issuer_head WHERE shard = %s",
            (shard,),
            binary=True,
        ).fetchall()
        heads = {row[2]: StoredIssuerHead._make(row) for row in rows}
        gone = archives.gone(list(heads))
        events = _Streams(_with_archived(connection, archives, shard, list(heads), gone, "issuers"))
        for stream_id, head in sorted(heads.items()):
            if archives.is_readable(gone.get(stream_id, ())):
                of_stream = (StoredEvent._make(row[1:]) for row in events.of(stream_id))
                self._findings += check_issuer(
                    IssuerOnFile(shard, head, self._counted(of_stream)), ISSUER_SHAPES.decode
                )

    def _counted(self, events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
        for event in events:
            self._events += 1
            yield event

    def _stream(self, connection: Connection) -> dict[Coordinates, Outcomes]:
        """What the stream's own rows say became of its records; differences among them are found on the way."""
        accounted: dict[Coordinates, Outcomes] = {}
        for partition in _partitions(connection):
            outcomes = accounted.setdefault((partition.topic, partition.part), Outcomes())
            self._findings += _check_partition(connection, partition, outcomes)
        self._findings += check_payments(connection)
        return accounted


class _Streams:
    """Rows ordered by account, handed out account by account."""

    def __init__(self, rows: Iterable[TupleRow]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next: tuple[UUID, Iterator[TupleRow]] | None = next(self._groups, None)

    def of(self, account_id: UUID) -> Iterator[TupleRow]:
        """The rows of the account; accounts are asked for in order, and may leave rows unread."""
        while self._next is not None and self._next[0] < account_id:
            self._next = next(self._groups, None)
        if self._next is not None and self._next[0] == account_id:
            yield from self._next[1]


def _log_positions(connection: Connection) -> dict[int, int]:
    return dict(connection.execute("SELECT shard, position FROM shard_log WHERE lives_here").fetchall())


def _position_of(connection: Connection, shard: int, projection: str) -> int:
    row = connection.execute(
        "SELECT position FROM tracking WHERE shard = %s AND projection = %s", (shard, projection)
    ).fetchone()
    return int(row[0]) if row else 0


def _heads(connection: Connection, shard: int, after: str, team_id: str | None) -> list[StoredHead]:
    """The next heads in team order, as many as have few enough events together; at least one, if there is any."""
    rows = connection.execute(
        "SELECT team_id, account_id, version, chain_hash, state, state_schema, recorded_at, next_due_at"
        " FROM account_head WHERE shard = %s AND team_id > %s AND (%s::text IS NULL OR team_id = %s)"
        " ORDER BY team_id LIMIT %s",
        (shard, after, team_id, team_id, CHUNK_TEAMS_MAX),
        binary=True,
    ).fetchall()
    heads: list[StoredHead] = []
    events = 0
    for row in rows:
        head = StoredHead._make(row)
        events += max(0, head.version)
        if heads and events > CHUNK_EVENTS_MAX:
            break
        heads.append(head)
    return heads


def _entries(connection: Connection, shard: int, teams: list[str]) -> dict[str, dict[tuple[str, str], bytes]]:
    rows = connection.execute(
        "SELECT team_id, kind, key, entry FROM account_index WHERE shard = %s AND team_id = ANY(%s)",
        (shard, teams),
        binary=True,
    ).fetchall()
    entries: dict[str, dict[tuple[str, str], bytes]] = {}
    for team_id, kind, key, entry in rows:
        entries.setdefault(team_id, {})[kind, key] = entry
    return entries


def _team_heads(connection: Connection, shard: int, teams: list[str]) -> dict[str, StoredTeamHead]:
    rows = connection.execute(
        "SELECT team_id, stream_id, version, chain_hash, state, state_schema, recorded_at FROM team_head"
        " WHERE shard = %s AND team_id = ANY(%s)",
        (shard, teams),
        binary=True,
    ).fetchall()
    return {row[0]: StoredTeamHead._make(row) for row in rows}


def _work_heads(connection: Connection, shard: int, teams: list[str]) -> list[StoredWorkHead]:
    rows = connection.execute(
        "SELECT team_id, work_id, stream_id, version, chain_hash, state, state_schema, recorded_at FROM work_head"
        " WHERE shard = %s AND team_id = ANY(%s)",
        (shard, teams),
        binary=True,
    ).fetchall()
    return [StoredWorkHead._make(row) for row in rows]


def _work_texts(
    connection: Connection, shard: int, teams: list[str]
) -> dict[tuple[str, str], dict[int, str]]:
    """The digest of each text that is kept, by work and version."""
    texts: dict[tuple[str, str], dict[int, str]] = {}
    for team_id, work_id, version, salt, context in connection.execute(
        "SELECT team_id, work_id, version, salt, context FROM work_context WHERE shard = %s AND team_id = ANY(%s)",
        (shard, teams),
        binary=True,
    ):
        texts.setdefault((team_id, work_id), {})[version] = salted_digest(salt, context)
    return texts


def _events(connection: Connection, shard: int, streams: Sequence[UUID], name: str) -> Iterator[TupleRow]:
    """All events of these streams, also those beyond their heads, by stream and version."""
    return _fetched(
        connection,
        name,
        "SELECT originator_id, originator_version, position, topic, state, uuid_send(usage_key), previous_hash, hash"
        " FROM ledger_events WHERE shard = %s AND originator_id = ANY(%s)"
        " ORDER BY originator_id, originator_version",
        (shard, list(streams)),
    )


def _with_archived(
    connection: Connection,
    archives: ArchiveReading,
    shard: int,
    streams: Sequence[UUID],
    gone: dict[UUID, list[Gone]],
    name: str,
) -> Iterator[TupleRow]:
    """All events of these streams, by stream and version: those in the log, and those that left it for files."""
    in_log = _events(connection, shard, streams, name)
    return merge(in_log, archives.rows(gone), key=itemgetter(0, 1)) if gone else in_log


def _rows(
    connection: Connection, shard: int, heads: Sequence[StoredHead], table: str, columns: Sequence[str]
) -> Iterator[TupleRow]:
    """All rows of these accounts in a read model, by account and version."""
    return _fetched(
        connection,
        table,
        f"SELECT a.account_id, {', '.join(f's.{column}' for column in columns)}"  # noqa: S608 - our own columns
        " FROM unnest(%s::uuid[], %s::text[]) AS a (account_id, team_id)"
        f" JOIN {table} s ON s.shard = %s AND s.team_id = a.team_id ORDER BY a.account_id, s.version",
        ([head.account_id for head in heads], [head.team_id for head in heads], shard),
    )


def _fetched(connection: Connection, name: str, query: str, values: Sequence[object]) -> Iterator[TupleRow]:
    """The rows of a query, a portion at a time, so that a team of any length fits."""
    with connection.cursor(name) as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.format = psycopg.pq.Format.BINARY
        cursor.execute(query.encode(), values)
        yield from cursor


def _check_positions(connection: Connection, shard: int) -> Iterator[Finding]:
    """Positions of the shard are 1 to N, less those that left for archives, and the counter says N."""
    row = connection.execute(
        "SELECT count(position), count(*) FILTER (WHERE position > archived.through), coalesce(max(position), 0),"
        " archived.through, archived.gone, (SELECT position FROM shard_log l WHERE l.shard = %(shard)s) FROM (SELECT"
        " coalesce((SELECT max(last_position) FROM archive WHERE shard = %(shard)s), 0) AS through, coalesce((SELECT"
        " sum(gone_through - gone_after) FROM archive_stream WHERE shard = %(shard)s), 0)::bigint AS gone) AS archived"
        " LEFT JOIN ledger_events ON shard = %(shard)s GROUP BY archived.through, archived.gone",
        {"shard": shard},
    ).fetchone()
    assert row is not None
    count, since, last, through, gone, counter = row
    last = max(last, through)
    if counter != last:
        yield Finding(table="shard_log", shard=shard, what="position", expected=str(last), found=str(counter))
    if through + since != last:
        yield _first_gap(connection, shard, through)
    elif count - since + gone != through:
        yield Finding(
            table="ledger_events",
            shard=shard,
            what=f"events up to position {through} of the shard, besides {gone} in archives",
            expected=str(through - gone),
            found=str(count - since),
        )


def _first_gap(connection: Connection, shard: int, after: int) -> Finding:
    row = connection.execute(
        "SELECT e.place, coalesce(h.team_id, t.team_id, w.team_id, i.issuer_id), e.originator_version"
        " FROM (SELECT position, originator_id, originator_version,"
        " row_number() OVER (ORDER BY position) + %s AS place FROM ledger_events WHERE shard = %s AND position > %s) AS e"
        " LEFT JOIN account_head h ON h.shard = %s AND h.account_id = e.originator_id"
        " LEFT JOIN team_head t ON t.shard = %s AND t.stream_id = e.originator_id"
        " LEFT JOIN work_head w ON w.shard = %s AND w.stream_id = e.originator_id"
        " LEFT JOIN issuer_head i ON i.shard = %s AND i.stream_id = e.originator_id"
        " WHERE e.position <> e.place ORDER BY e.position LIMIT 1",
        (after, shard, after, shard, shard, shard, shard),
    ).fetchone()
    place, team_id, version = row if row else (None, None, None)
    return Finding(
        table="ledger_events",
        shard=shard,
        team_id=team_id,
        version=version,
        what="position of the shard",
        expected=f"{place}, none is left out or given twice",
        found="a later one",
    )


_STRAYS = (
    (
        "ledger_events",
        (
            "SELECT e.originator_id::text, min(e.originator_version) FROM ledger_events e WHERE e.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = e.shard AND h.account_id = e.originator_id) AND NOT EXISTS"
            " (SELECT FROM team_head t WHERE t.shard = e.shard AND t.stream_id = e.originator_id) AND NOT EXISTS"
            " (SELECT FROM work_head w WHERE w.shard = e.shard AND w.stream_id = e.originator_id) AND NOT EXISTS"
            " (SELECT FROM issuer_head i WHERE i.shard = e.shard AND i.stream_id = e.originator_id) GROUP BY 1 LIMIT 100"
        ),
    ),
    (
        "team_head",
        (
            "SELECT t.team_id, t.version FROM team_head t WHERE t.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = t.shard AND h.team_id = t.team_id) LIMIT 100"
        ),
    ),
    (
        "work_head",
        (
            "SELECT w.team_id, min(w.version) FROM work_head w WHERE w.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = w.shard AND h.team_id = w.team_id) GROUP BY 1 LIMIT 100"
        ),
    ),
    (
        "invoice_entry",
        (
            "SELECT s.team_id, min(s.version) FROM invoice_entry s WHERE s.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = s.shard AND h.team_id = s.team_id) GROUP BY 1 LIMIT 100"
        ),
    ),
    (
        "statement_entry",
        (
            "SELECT s.team_id, min(s.version) FROM statement_entry s WHERE s.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = s.shard AND h.team_id = s.team_id) GROUP BY 1 LIMIT 100"
        ),
    ),
    (
        "spending_day",
        (
            "SELECT s.team_id, NULL::bigint FROM spending_day s WHERE s.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = s.shard AND h.team_id = s.team_id) GROUP BY 1 LIMIT 100"
        ),
    ),
    (
        "account_index",
        (
            "SELECT i.team_id, NULL::bigint FROM account_index i WHERE i.shard = %s AND NOT EXISTS"
            " (SELECT FROM account_head h WHERE h.shard = i.shard AND h.team_id = i.team_id) GROUP BY 1 LIMIT 100"
        ),
    ),
)


def _check_strays(connection: Connection, shard: int) -> Iterator[Finding]:
    """Rows of accounts that have no head."""
    for table, query in _STRAYS:
        for owner, version in connection.execute(query.encode(), (shard,)).fetchall():
            yield Finding(
                table=table,
                shard=shard,
                team_id=owner,
                version=version,
                what="head of the account",
                expected="one",
                found="none",
            )


def _check_denials(connection: Connection, shard: int) -> Iterator[Finding]:
    """Repeats are counted only of denials that are on file."""
    rows = connection.execute(
        "SELECT d.team_id, d.version FROM denial_repeat d WHERE d.shard = %s AND NOT EXISTS ("
        " SELECT FROM account_head h JOIN ledger_events e ON e.shard = h.shard AND e.originator_id = h.account_id"
        " WHERE h.shard = d.shard AND h.team_id = d.team_id AND e.originator_version = d.version AND e.topic = %s)"
        " AND NOT EXISTS (SELECT FROM account_head h JOIN archive_stream s ON s.shard = h.shard AND s.stream_id = h.account_id"
        " WHERE h.shard = d.shard AND h.team_id = d.team_id AND d.version > s.gone_after AND d.version <= s.gone_through)"
        " ORDER BY 1, 2 LIMIT 100",
        (shard, HoldDenied.TOPIC),
    ).fetchall()
    for team_id, version in rows:
        yield Finding(
            table="denial_repeat",
            shard=shard,
            team_id=team_id,
            version=version,
            what="denial that was repeated",
            expected="one",
            found="none",
        )


def _check_tracking(connection: Connection, shard: int) -> Iterator[Finding]:
    """No projection stands still, and none claims to have read further than the log goes."""
    rows = connection.execute(
        "SELECT t.projection, t.position, t.halted, l.position FROM tracking t JOIN shard_log l USING (shard)"
        " WHERE t.shard = %s",
        (shard,),
    ).fetchall()
    for projection, position, halted, last in rows:
        if halted is not None:
            yield Finding(
                table="tracking",
                shard=shard,
                what=f"{projection} at position {position + 1}",
                expected="projected",
                found=f"halted: {halted}",
            )
        if position > last:
            yield Finding(
                table="tracking",
                shard=shard,
                what=projection,
                expected=f"at most {last}",
                found=str(position),
            )


class _Partition(NamedTuple):
    """A row of ``consumed``: a partition of the stream, at home in a shard."""

    shard: int
    cluster_id: str
    topic_id: str
    topic: str
    part: int
    next_offset: int

    def key(self) -> tuple[int, str, str, int]:
        """What leads the key of every table of the stream."""
        return self.shard, self.cluster_id, self.topic_id, self.part

    def finding(self, table: str, offset: int, what: str, expected: object, found: object) -> Finding:
        """A difference at an offset of this partition."""
        return Finding(
            table=table,
            shard=self.shard,
            topic=self.topic,
            partition=self.part,
            offset=offset,
            what=what,
            expected=str(expected),
            found=str(found),
        )


_OF_PARTITION = "shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s"


def _partitions(connection: Connection) -> list[_Partition]:
    rows = connection.execute(
        "SELECT shard, cluster_id, topic_id, topic, part, next_offset FROM consumed JOIN shard_log USING (shard)"
        " WHERE lives_here ORDER BY topic, part, topic_id"
    ).fetchall()
    return [_Partition._make(row) for row in rows]


class _Span(NamedTuple):
    """Offsets that a batch read, or that an operator had skipped."""

    first_offset: int
    next_offset: int
    records: int
    outcomes: Mapping[str, Mapping[str, int]]
    in_holes: int


def _check_partition(connection: Connection, partition: _Partition, outcomes: Outcomes) -> Iterator[Finding]:
    """Offsets read are contiguous, each was a record with one outcome or lies in a hole, and what is no event has its row."""
    expected: int | None = None
    rows = _NoEvents(connection, partition)
    for span in _spans(connection, partition):
        if expected is not None and span.first_offset != expected:
            yield partition.finding(
                "consumed_batch",
                min(expected, span.first_offset),
                "first_offset",
                expected,
                span.first_offset,
            )
        expected = span.next_offset
        told = {(o, reason): n for o, reasons in span.outcomes.items() for reason, n in reasons.items()}
        if sum(told.values()) != span.records:
            yield partition.finding(
                "consumed_batch", span.first_offset, "records", sum(told.values()), span.records
            )
        offsets = span.next_offset - span.first_offset
        if span.records + span.in_holes != offsets:
            yield partition.finding(
                "stream_hole",
                span.first_offset,
                f"offsets before {span.next_offset} that were no record",
                offsets - span.records,
                span.in_holes,
            )
        yield from _check_no_events(partition, span, told, rows.below(span.next_offset))
        for (outcome, reason), count in told.items():
            outcomes.add(outcome, reason, count)
    if expected is not None and expected != partition.next_offset:
        yield partition.finding("consumed", expected, "next_offset", expected, partition.next_offset)
    _add_second_readings(connection, partition, outcomes)


def _spans(connection: Connection, partition: _Partition) -> Iterator[_Span]:
    """Batches and skipped offsets in order. A skip is a hole that no batch read over."""
    # Offsets of a hole belong to the batch that met it, whatever a second reader found in it later.
    rows = _fetched(
        connection,
        "spans",
        "SELECT b.first_offset, b.next_offset, b.records, b.outcomes, coalesce((SELECT sum(h.next_offset - h.first_offset)"  # noqa: S608 - our own condition
        " FROM stream_hole h WHERE h.shard = b.shard AND h.cluster_id = b.cluster_id AND h.topic_id = b.topic_id"
        " AND h.part = b.part AND h.first_offset >= b.first_offset AND h.first_offset < b.next_offset"
        " AND h.status NOT LIKE 'skipped%%'), 0)::bigint"
        f" FROM consumed_batch b WHERE {_OF_PARTITION}"
        " UNION ALL SELECT first_offset, next_offset, 0, '{}'::jsonb, next_offset - first_offset FROM stream_hole"
        f" WHERE {_OF_PARTITION} AND status LIKE 'skipped%%' ORDER BY 1, 2",
        (*partition.key(), *partition.key()),
    )
    for row in rows:
        yield _Span._make(row)


class _NoEvents:
    """The rows of records that became no event, in order of their offsets."""

    def __init__(self, connection: Connection, partition: _Partition) -> None:
        self._rows = iter(
            _fetched(
                connection,
                "no_events",
                f"SELECT kafka_offset, outcome, reason FROM usage_outcome WHERE {_OF_PARTITION}"  # noqa: S608 - our own condition
                " AND NOT EXISTS (SELECT FROM stream_hole h WHERE h.shard = usage_outcome.shard"
                " AND h.cluster_id = usage_outcome.cluster_id AND h.topic_id = usage_outcome.topic_id"
                " AND h.part = usage_outcome.part AND h.status = 'filled'"
                " AND usage_outcome.kafka_offset >= h.first_offset AND usage_outcome.kafka_offset < h.next_offset)"
                " ORDER BY kafka_offset",
                partition.key(),
            )
        )
        self._next: Any = next(self._rows, None)

    def below(self, offset: int) -> dict[tuple[str, str], int]:
        """How many rows there are up to the offset, since the last asked for, by outcome and reason."""
        counts: dict[tuple[str, str], int] = {}
        while self._next is not None and self._next[0] < offset:
            key = (self._next[1], self._next[2])
            counts[key] = counts.get(key, 0) + 1
            self._next = next(self._rows, None)
        return counts


def _check_no_events(
    partition: _Partition,
    span: _Span,
    told: Mapping[tuple[str, str], int],
    rows: Mapping[tuple[str, str], int],
) -> Iterator[Finding]:
    counted = {key: n for key, n in told.items() if key[0] not in ("charged", "waived") and n}
    for outcome, reason in sorted(counted.keys() | rows.keys()):
        expected, found = counted.get((outcome, reason), 0), rows.get((outcome, reason), 0)
        if expected != found:
            yield partition.finding(
                "usage_outcome",
                span.first_offset,
                f"rows {outcome} {reason} up to offset {span.next_offset}",
                expected,
                found,
            )


def _add_second_readings(connection: Connection, partition: _Partition, outcomes: Outcomes) -> None:
    """Records found in holes, and dead letters that became an event when they were tried again, count too."""
    filled = connection.execute(
        f"SELECT outcomes FROM stream_hole WHERE {_OF_PARTITION} AND outcomes IS NOT NULL",  # noqa: S608 - our own condition
        partition.key(),
    ).fetchall()
    for (told,) in filled:
        for outcome, reasons in told.items():
            for reason, count in reasons.items():
                outcomes.add(outcome, reason, count)
    retried = connection.execute(
        "SELECT retry_outcome, coalesce(retry_reason, ''), count(*) FROM dead_letter"  # noqa: S608 - our own condition
        f" WHERE {_OF_PARTITION} AND retry_outcome IN ('charged', 'waived') GROUP BY 1, 2",
        partition.key(),
    ).fetchall()
    for outcome, reason, count in retried:
        outcomes.add(outcome, reason, count)
