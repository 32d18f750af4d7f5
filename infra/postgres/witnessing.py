"""What checkpoints and bundles are made of: the newest event of every stream at one instant, and one team's events as stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from heapq import merge
from itertools import groupby
from operator import itemgetter
from time import sleep
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import TupleRow

from domain.bundles import ACCOUNT, TEAM, WORK, BundledEvent, bundled
from domain.checkpoints import Leaf, StreamHead
from domain.errors import Busy, UnknownTeam
from domain.times import instant_text
from infra.postgres.archive_reading import ArchiveReading
from infra.postgres.shards import ShardMap

FETCH_ROWS = 2_000
COMPARED_TOGETHER = 500
ATTEMPTS_MAX = 5
BETWEEN_ATTEMPTS_SECONDS = 0.2

# A long ledger is read for longer than short work may take.
_OPTIONS = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"

Connection = psycopg.Connection[TupleRow]

_OF_TEAMS = (
    "SELECT team_id, 0, '', account_id, version, chain_hash FROM account_head WHERE shard = %s ORDER BY team_id",
    "SELECT team_id, 1, '', stream_id, version, chain_hash FROM team_head WHERE shard = %s ORDER BY team_id",
    "SELECT team_id, 2, work_id, stream_id, version, chain_hash FROM work_head WHERE shard = %s ORDER BY 1, 3",
)
_OF_ONE = (
    "SELECT team_id, 0 AS kind, '' AS work_id, account_id, version, chain_hash FROM account_head"
    " WHERE shard = %(shard)s AND team_id = %(team)s"
    " UNION ALL SELECT team_id, 1, '', stream_id, version, chain_hash FROM team_head"
    " WHERE shard = %(shard)s AND team_id = %(team)s"
    " UNION ALL SELECT team_id, 2, work_id, stream_id, version, chain_hash FROM work_head"
    " WHERE shard = %(shard)s AND team_id = %(team)s ORDER BY 2, 3"
)
_INSTALLED = "SELECT installed_at FROM installation"
_OF_ISSUERS = (
    "SELECT issuer_id, 3, year::text, stream_id, version, chain_hash FROM issuer_head WHERE shard = %s"
    " AND version > 0 ORDER BY issuer_id, year"
)


class AllHeads:
    """Every head of the ledger as it stood when this was made, one instant in each database; the position of each shard."""

    def __init__(self, homes: dict[int, Connection], positions: dict[int, int]) -> None:
        self._homes = homes
        self.positions = [positions[shard] for shard in sorted(positions)]

    def now(self) -> str:
        """The instant, by the clock of the database of the first shard."""
        return instant_text(_only(self._homes[0], "SELECT clock_timestamp()")[0])

    def ledger(self) -> str:
        """The instant at which the ledger was installed, which tells it from every other."""
        return instant_text(_only(self._homes[0], _INSTALLED)[0])

    def leaves(self) -> Iterator[Leaf]:
        """A leaf for each team and issuer: shard by shard, teams before issuers, by id; a portion is in memory."""
        for shard, connection in sorted(self._homes.items()):
            teams = (
                _rows(connection, f"heads {kind} of {shard}", query, (shard,))
                for kind, query in enumerate(_OF_TEAMS)
            )
            yield from _leaves(merge(*teams, key=itemgetter(0, 1)), is_team=True)
            issuers = _rows(connection, f"issuers of {shard}", _OF_ISSUERS, (shard,))
            yield from _leaves(issuers, is_team=False)


@contextmanager
def all_heads(shards: ShardMap) -> Iterator[AllHeads]:
    """The heads of all shards, each read where it lives; nothing that is written meanwhile is among them.

    Raises: Busy while a shard is on its way from one database to another; psycopg.OperationalError.
    """
    for attempt in range(ATTEMPTS_MAX):
        with ExitStack() as opened:
            homes: dict[int, Connection] = {}
            positions: dict[int, int] = {}
            seen = 0
            for name in shards.databases:
                connection = opened.enter_context(_reading(shards, name))
                found = connection.execute(
                    "SELECT shard, position FROM shard_log WHERE lives_here"
                ).fetchall()
                seen += len(found)
                positions |= dict(found)
                homes |= {shard: connection for shard, _ in found}
            # One that moved between two of these instants was seen twice, or not at all.
            if len(homes) == seen == shards.count:
                yield AllHeads(homes, positions)
                return
        sleep(BETWEEN_ATTEMPTS_SECONDS * (attempt + 1))
    raise Busy(f"of {shards.count} shards {seen} were found: one is being moved, see `coffer shards`")


class TeamStreams:
    """The streams of one team at one instant, with their events as they are stored."""

    def __init__(self, connection: Connection, shard: int, team_id: str, heads: list[StreamHead]) -> None:
        self._connection = connection
        self._shard = shard
        self.team_id = team_id
        self.heads = heads
        self.made_at = instant_text(_only(connection, "SELECT clock_timestamp()")[0])

    @property
    def length(self) -> int:
        """How many events they have together."""
        return sum(head.version for head in self.heads)

    def events(self) -> Iterator[BundledEvent]:
        """Every event that is stored of them, stream by stream, by version; also those in archives and those beyond the head.

        Raises: EventsArchived for an archive that cannot be read.
        """
        archives = ArchiveReading(self._connection, self._shard)
        for number, head in enumerate(self.heads):
            stream_id = UUID(head.stream_id)
            for row in self._stored(archives, stream_id, f"stream {number}"):
                yield bundled(head.stream, row[0], row[1], row[2], row[3])

    def _stored(self, archives: ArchiveReading, stream_id: UUID, name: str) -> Iterable[TupleRow]:
        """Version, topic, state and hash."""
        in_log = _rows(
            self._connection,
            name,
            "SELECT originator_version, topic, state, hash FROM ledger_events"
            " WHERE shard = %s AND originator_id = %s ORDER BY originator_version",
            (self._shard, stream_id),
        )
        gone = archives.gone([stream_id])
        if not gone:
            return in_log
        for parts in gone.values():
            if not archives.is_readable(parts):
                raise parts[0].error()
        archived = ((row[1], row[3], row[4], row[7]) for row in archives.rows(gone))
        return merge(in_log, archived, key=itemgetter(0))


@contextmanager
def team_streams(shards: ShardMap, team_id: str) -> Iterator[TeamStreams]:
    """All streams of the team at one instant. Raises: UnknownTeam, Busy; psycopg.OperationalError."""
    shard = shards.shard_of(team_id)
    shards.refresh()
    with _reading(shards, shards.home_of(shard)) as connection:
        if not connection.execute("SELECT FROM shard_log WHERE shard = %s AND lives_here", (shard,)).rowcount:
            raise Busy(f"shard {shard} is being moved, see `coffer shards`")
        rows = connection.execute(_OF_ONE.encode(), {"shard": shard, "team": team_id}, binary=True).fetchall()
        if not rows:
            raise UnknownTeam(f"team {team_id[:128]!r} has no account: open one first", team_id=team_id[:128])
        yield TeamStreams(connection, shard, team_id, [_head(row) for row in rows])


class Astray(NamedTuple):
    """A stream that is not what a checkpoint says: the event of the covered version has another hash, or is not there."""

    owner: str
    stream: str
    version: int
    expected: str
    found: str | None


class Compared(NamedTuple):
    """Leaves compared with the log: streams, those whose covered event is in an archive, and those that differ."""

    streams: int
    archived: int
    astray: list[Astray]


def compare_leaves(
    shards: ShardMap, leaves: Iterator[Leaf], progress: Callable[[int], None] = lambda _: None
) -> Compared:
    """The log still has, at the version that each leaf covers of each stream, the event with that hash.

    Raises: ShardMoved, psycopg.OperationalError.
    """
    streams = archived = 0
    astray: list[Astray] = []
    for together in _together(leaves):
        for shard, named in _by_shard(shards, together).items():
            with shards.connection_for(shard) as connection:
                found = _hashes(connection, shard, [head for _, head in named])
                gone = _archived(
                    connection, shard, [head for _, head in named if head.stream_id not in found]
                )
            streams += len(named)
            archived += len(gone)
            astray += [
                Astray(owner, head.stream, head.version, head.hash, found.get(head.stream_id))
                for owner, head in named
                if head.stream_id not in gone and found.get(head.stream_id) != head.hash
            ]
        progress(streams)
    return Compared(streams, archived, astray)


def ledger_of(shards: ShardMap) -> str:
    """The instant at which the ledger was installed, which tells it from every other."""
    with shards.first_connection() as connection:
        return instant_text(_only(connection, _INSTALLED)[0])


def positions_now(shards: ShardMap) -> int:
    """How many events the logs of all shards have."""
    with all_heads(shards) as heads:
        return sum(heads.positions)


@contextmanager
def _reading(shards: ShardMap, name: str) -> Iterator[Connection]:
    """A connection that reads at one instant, from its first question on."""
    with shards.own_connection_to(name, _OPTIONS) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.autocommit = True
        with connection.transaction():
            yield connection


def _rows(connection: Connection, name: str, query: str, values: Sequence[object]) -> Iterator[TupleRow]:
    """The rows of a query, a portion at a time."""
    with connection.cursor(name) as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.format = psycopg.pq.Format.BINARY
        cursor.execute(query.encode(), values)
        yield from cursor


def _only(connection: Connection, query: str) -> TupleRow:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def _leaves(rows: Iterable[TupleRow], *, is_team: bool) -> Iterator[Leaf]:
    for owner, own in groupby(rows, key=itemgetter(0)):
        streams = [_head(row) for row in own]
        yield Leaf(team_id=owner, streams=streams) if is_team else Leaf(issuer_id=owner, streams=streams)


def _head(row: TupleRow) -> StreamHead:
    _, kind, name, stream_id, version, chain_hash = row
    stream = (ACCOUNT, TEAM, f"{WORK}{name}", f"year {name}")[kind]
    return StreamHead(stream=stream, stream_id=stream_id.hex, version=version, hash=bytes(chain_hash).hex())


def _together(leaves: Iterator[Leaf]) -> Iterator[list[Leaf]]:
    portion: list[Leaf] = []
    for leaf in leaves:
        portion.append(leaf)
        if len(portion) >= COMPARED_TOGETHER:
            yield portion
            portion = []
    if portion:
        yield portion


def _by_shard(shards: ShardMap, leaves: Sequence[Leaf]) -> dict[int, list[tuple[str, StreamHead]]]:
    found: dict[int, list[tuple[str, StreamHead]]] = {}
    for leaf in leaves:
        owner = leaf.team_id or leaf.issuer_id
        assert owner is not None, "a leaf is somebody's"
        found.setdefault(shards.shard_of(owner), []).extend((owner, head) for head in leaf.streams)
    return found


def _hashes(connection: Connection, shard: int, heads: Sequence[StreamHead]) -> dict[str, str]:
    """The hash of each of these events that is in the log, by stream."""
    rows = connection.execute(
        "SELECT e.originator_id, e.hash FROM unnest(%s::uuid[], %s::bigint[]) AS w (stream_id, version)"
        " JOIN ledger_events e ON e.shard = %s AND e.originator_id = w.stream_id AND e.originator_version = w.version",
        (*_listed(heads), shard),
        binary=True,
    ).fetchall()
    return {stream_id.hex: bytes(own).hex() for stream_id, own in rows}


def _archived(connection: Connection, shard: int, heads: Sequence[StreamHead]) -> set[str]:
    """Those of which the event left the log for an archive."""
    rows = connection.execute(
        "SELECT DISTINCT s.stream_id FROM unnest(%s::uuid[], %s::bigint[]) AS w (stream_id, version)"
        " JOIN archive_stream s ON s.shard = %s AND s.stream_id = w.stream_id"
        " AND w.version > s.gone_after AND w.version <= s.gone_through",
        (*_listed(heads), shard),
        binary=True,
    ).fetchall()
    return {stream_id.hex for (stream_id,) in rows}


def _listed(heads: Sequence[StreamHead]) -> tuple[list[UUID], list[int]]:
    return [UUID(head.stream_id) for head in heads], [head.version for head in heads]
