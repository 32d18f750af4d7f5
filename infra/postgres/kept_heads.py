"""Accounts are kept as they were at every so many versions: made beside all other work, read back, dropped without a loss.

Whoever makes them looks through the log of a shard for accounts that have come to a version that is kept, and folds each on from
where it was kept last. That is done under the lock of the shard's place, which nobody waits for: it may run anywhere, any number
of times at once, and be killed at any instant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg import sql
from psycopg.rows import TupleRow, tuple_row

from domain.account.applying import apply, opened
from domain.account.decision import account_id
from domain.account.events import AccountEvent, AccountOpened, RecordedEvent
from domain.account.state import TeamAccount
from domain.errors import UnknownEventShape
from infra.postgres.mapper import ACCOUNT_SHAPES, decode_account
from infra.postgres.sealing import is_sealed, sealed
from infra.postgres.shards import ShardMap
from projections.keeping import (
    KEEP_EVERY,
    KEPT_SCHEMA,
    Keeping,
    Kept,
    KeptAccount,
    KeptKind,
    KeptOnFile,
    KeptRow,
)

LOOK_POSITIONS = 20_000
"""How much of a log is looked through at a time."""

ACCOUNTS_AT_ONCE = 4
"""How many accounts are folded on in one transaction, which so takes some tens of milliseconds."""

FOLD_ROWS = 1_000

KEPT_HEAD = (
    "SELECT k.version, k.position, k.state, k.chain_hash FROM kept_head AS k"
    " WHERE k.shard = %s AND k.team_id = %s AND k.version <= %s AND k.kept_schema = %s AND NOT EXISTS ("
    "  SELECT FROM ledger_events AS e WHERE e.shard = k.shard AND e.originator_id = %s"
    "  AND e.originator_version = k.version AND e.hash <> k.chain_hash)"
    " ORDER BY k.version DESC LIMIT 1"
)
"""The newest one up to a version; one that was kept of another history than the log's is passed over."""

# Nobody may take for none what was dropped meanwhile: a row without a kind says that the account is still kept there.
_STILL_KEPT = (
    "SELECT NULL::text AS key, NULL::bytea AS entry FROM kept_head"
    " WHERE shard = %(shard)s AND team_id = %(team)s AND version = %(version)s AND kept_schema = %(schema)s"
)
KEPT_ENTRIES = (
    f"{_STILL_KEPT} UNION ALL (SELECT asked.key, newest.entry FROM unnest(%(keys)s::text[]) AS asked (key)"  # noqa: S608 - from constants
    " CROSS JOIN LATERAL (SELECT k.entry FROM kept_entry AS k WHERE k.shard = %(shard)s AND k.team_id = %(team)s"
    '  AND k.kind = %(kind)s AND k.key = asked.key COLLATE "C" AND k.version <= %(version)s'
    "  ORDER BY k.version DESC LIMIT 1) AS newest)"
)
KEPT_LATEST = (
    f"{_STILL_KEPT} UNION ALL (SELECT key, entry FROM (SELECT DISTINCT ON (key) key, entry FROM kept_entry"  # noqa: S608 - from constants
    " WHERE shard = %(shard)s AND team_id = %(team)s AND kind = %(kind)s AND key >= %(prefix)s{below}"
    " AND version <= %(version)s ORDER BY key DESC, version DESC) AS newest"
    " WHERE entry IS NOT NULL ORDER BY key DESC LIMIT %(limit)s)"
)

REFUNDS = (
    "SELECT {columns} FROM ("
    "  SELECT coalesce((SELECT max(h.version) FROM kept_head AS h WHERE h.shard = k.shard AND h.team_id = k.team_id"
    "   AND h.version < k.version AND h.kept_schema = %(schema)s), 0) AS after, k.version AS until"
    "  FROM kept_entry AS k WHERE k.shard = %(shard)s AND k.team_id = %(team)s AND k.kind = 'refund' AND k.key = %(charge)s"
    "  UNION ALL SELECT coalesce(max(version), 0), 4611686018427387904 FROM kept_head"
    "  WHERE shard = %(shard)s AND team_id = %(team)s AND kept_schema = %(schema)s"
    " ) AS span CROSS JOIN LATERAL ("
    "  SELECT * FROM ledger_events AS own WHERE own.shard = %(shard)s AND own.originator_id = %(account)s"
    "  AND own.originator_version > greatest(span.after, %(since)s) AND own.originator_version <= span.until"
    "  AND own.topic = ANY(%(topics)s) AND position(%(charge_bytes)s::bytea IN own.state) > 0"
    " ) AS event ORDER BY originator_version"
)
"""The refunds of a charge: only where what was kept of them had changed, and after what was kept last, is the stream read."""

log = structlog.get_logger("snapshots")
Connection = psycopg.Connection[Any]


class KeptSoFar(msgspec.Struct, frozen=True, kw_only=True):
    """What was made: how many snapshots, and by how many events accounts were folded on for them.

    ``failed`` accounts could not be read or folded; the log says why.
    """

    snapshots: int = 0
    events: int = 0
    failed: int = 0

    def plus(self, other: KeptSoFar) -> KeptSoFar:
        """Both together."""
        return KeptSoFar(
            snapshots=self.snapshots + other.snapshots,
            events=self.events + other.events,
            failed=self.failed + other.failed,
        )


class _Come(NamedTuple):
    """An account that has come to a version that is kept, at that position of the log."""

    position: int
    account_id: UUID
    version: int


class Keeper:
    """Makes what is missing, a portion at a time."""

    def __init__(self, shards: ShardMap, *, every: int = KEEP_EVERY) -> None:
        self._shards = shards
        self._every = every

    def keep_all(
        self, progress: Callable[[KeptSoFar], None] = lambda _: None, stop: Callable[[], bool] = lambda: False
    ) -> KeptSoFar:
        """Every account of every shard is kept at all the versions it has come to, but for shards that another keeper is at.

        Raises: psycopg.OperationalError.
        """
        told = KeptSoFar()
        for shard in range(self._shards.count):
            while not stop():
                made = self.keep_some(shard)
                if made is None:
                    break
                told = told.plus(made)
                progress(told)
        return told

    def keep_some(self, shard: int) -> KeptSoFar | None:
        """The next few accounts of the shard are kept; None when there is nothing to do, or another keeper is at it.

        Raises: psycopg.OperationalError.
        """
        with self._shards.connection_for(shard) as connection, connection.transaction():
            place = _place(connection, shard)
            last = _last_position(connection, shard)
            if place is None or place >= last:
                return None
            until = min(place + LOOK_POSITIONS, last)
            come = _come(connection, shard, place, until, self._every)
            told = KeptSoFar()
            for each in come:
                told = told.plus(self._keep(connection, shard, each))
            reached = come[-1].position if len(come) == ACCOUNTS_AT_ONCE else until
            connection.execute(
                "UPDATE kept_place SET position = %s, kept_schema = %s WHERE shard = %s",
                (reached, KEPT_SCHEMA, shard),
            )
            return told

    def _keep(self, connection: Connection, shard: int, come: _Come) -> KeptSoFar:
        """One account; trouble with it is its own, and the others go on."""
        try:
            with connection.transaction():
                return self._folded_on(connection, shard, come)
        except (UnknownEventShape, AssertionError, KeyError, ValueError) as error:
            log.warning("account_not_kept", account=str(come.account_id), error=str(error))
            return KeptSoFar(failed=1)

    def _folded_on(self, connection: Connection, shard: int, come: _Come) -> KeptSoFar:
        team_id = _team_of(connection, shard, come.account_id)
        _drop_older(connection, shard, team_id)
        begun = read_kept(connection, shard, team_id, come.account_id, come.version)
        after = begun.version if begun else 0
        if after == come.version:
            return KeptSoFar()
        snapshots = 0
        for kept, row in fold_on(
            connection, shard, team_id, come.account_id, begun, come.version, self._every
        ):
            snapshots += _write(connection, shard, team_id, kept, row)
        return KeptSoFar(snapshots=snapshots, events=come.version - after)


class ChainedAt(NamedTuple):
    """The place of an event: its position in the log and its hash."""

    position: int
    hash: bytes


def fold_on(
    connection: Connection,
    shard: int,
    team_id: str,
    account_id: UUID,
    begun: KeptAccount | None,
    until: int,
    every: int = KEEP_EVERY,
) -> Iterator[tuple[Kept, ChainedAt]]:
    """What is to be kept of the account beyond what was, up to a version, each with the place of its event.

    Raises: UnknownEventShape; ValueError for a stream with a gap.
    """
    account = begun.account if begun else None
    version = begun.version if begun else 0
    on_file = _OnFile(connection, shard, team_id, version)
    keeping = Keeping(account, on_file.entries, lambda version: version % every == 0)
    for number, position, topic, state, chained in _events(connection, shard, account_id, version, until):
        version += 1
        if number != version:
            raise ValueError(f"version {version} of account {account_id} is not in the log")
        event = ACCOUNT_SHAPES.decode(topic, state)
        account, changes = _applied(account, event)
        kept = keeping.take(RecordedEvent(account_id, version, event), account, changes)
        if kept is not None:
            yield kept, ChainedAt(position, chained)
            on_file.version = version


def read_kept(
    connection: Connection, shard: int, team_id: str, account_id: UUID, version: int
) -> KeptAccount | None:
    """The account at the newest version up to this one at which it was kept."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(KEPT_HEAD, (shard, team_id, version, KEPT_SCHEMA, account_id), binary=True)
        row = cursor.fetchone()
    return kept_account(account_id, row) if row else None


def kept_account(account_id: UUID, row: TupleRow) -> KeptAccount | None:
    """The account of a row of ``KEPT_HEAD``; None when its seal is not ours: then its events are read from the first.

    Raises: UnknownEventShape.
    """
    version, position, state, chain_hash = row
    if not is_sealed(state, account_id, version, chain_hash):
        return None
    return KeptAccount(version, position, decode_account(state))


def kept_on_file(connection: Connection, shard: int, team_ids: Sequence[str]) -> dict[str, KeptOnFile]:
    """All that is kept of these accounts in this schema, by team; entries without any account kept are read by nobody."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT team_id, version, position, chain_hash, recorded_at, state FROM kept_head"
            " WHERE shard = %s AND team_id = ANY(%s) AND kept_schema = %s ORDER BY team_id, version",
            (shard, list(team_ids), KEPT_SCHEMA),
            binary=True,
        )
        heads: dict[str, dict[int, KeptRow]] = {}
        for team_id, version, *row in cursor.fetchall():
            heads.setdefault(team_id, {})[version] = KeptRow._make(row)
        cursor.execute(
            "SELECT team_id, version, kind, key, entry FROM kept_entry WHERE shard = %s AND team_id = ANY(%s)",
            (shard, list(heads)),
            binary=True,
        )
        entries: dict[str, dict[int, dict[tuple[str, str], bytes | None]]] = {each: {} for each in heads}
        for team_id, version, kind, key, entry in cursor.fetchall():
            entries[team_id].setdefault(version, {})[kind, key] = entry
    return {team_id: KeptOnFile(rows, entries[team_id]) for team_id, rows in heads.items()}


def drop_kept(shards: ShardMap) -> None:
    """Nothing is kept any more, of any account, and all of it will be made again. Raises: psycopg.OperationalError."""
    for shard in range(shards.count):
        with shards.connection_for(shard) as connection, connection.transaction():
            for table in ("kept_place", "kept_entry", "kept_head"):
                statement = sql.SQL("DELETE FROM {} WHERE shard = %s").format(sql.Identifier(table))
                connection.execute(statement, (shard,))


def _applied(account: TeamAccount | None, event: AccountEvent) -> tuple[TeamAccount, Sequence[Any]]:
    if account is not None:
        return account, apply(account, event)
    assert isinstance(event, AccountOpened), "the first event opens the account"
    return opened(event), ()


def _place(connection: Connection, shard: int) -> int | None:
    """How far the shard was looked through, its row locked until the transaction ends; None when another keeper has it.

    A place of an older schema counts for nothing; one of a newer schema is that of newer code, which does the work.
    """
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "INSERT INTO kept_place (shard, position, kept_schema) VALUES (%s, 0, %s) ON CONFLICT DO NOTHING",
            (shard, KEPT_SCHEMA),
        )
        cursor.execute(
            "SELECT position, kept_schema FROM kept_place WHERE shard = %s FOR UPDATE SKIP LOCKED", (shard,)
        )
        row = cursor.fetchone()
    if row is None or row[1] > KEPT_SCHEMA:
        return None
    return int(row[0]) if row[1] == KEPT_SCHEMA else 0


def _last_position(connection: Connection, shard: int) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("SELECT position FROM shard_log WHERE shard = %s", (shard,))
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def _come(connection: Connection, shard: int, place: int, until: int, every: int) -> list[_Come]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT e.position, e.originator_id, e.originator_version FROM ledger_events AS e"
            " WHERE e.shard = %s AND e.position > %s AND e.position <= %s AND e.originator_version %% %s = 0"
            " AND EXISTS (SELECT FROM account_head AS h WHERE h.shard = e.shard AND h.account_id = e.originator_id)"
            " ORDER BY e.position LIMIT %s",
            (shard, place, until, every, ACCOUNTS_AT_ONCE),
            binary=True,
        )
        return [_Come._make(row) for row in cursor.fetchall()]


def _team_of(connection: Connection, shard: int, account_id: UUID) -> str:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "SELECT team_id FROM account_head WHERE shard = %s AND account_id = %s", (shard, account_id)
        )
        row = cursor.fetchone()
    assert row is not None, f"account {account_id} has no head"
    return str(row[0])


def _drop_older(connection: Connection, shard: int, team_id: str) -> None:
    """What was kept in an older schema goes, entries included, before anything of this one is kept."""
    found = connection.execute(
        "DELETE FROM kept_head WHERE shard = %s AND team_id = %s AND kept_schema < %s",
        (shard, team_id, KEPT_SCHEMA),
    )
    if found.rowcount:
        for table in ("kept_head", "kept_entry"):
            statement = sql.SQL("DELETE FROM {} WHERE shard = %s AND team_id = %s").format(
                sql.Identifier(table)
            )
            connection.execute(statement, (shard, team_id))


def _events(
    connection: Connection, shard: int, account_id: UUID, after: int, until: int
) -> Iterator[TupleRow]:
    with connection.cursor("keeping", row_factory=tuple_row) as cursor:
        cursor.format = psycopg.pq.Format.BINARY
        cursor.execute(
            "SELECT originator_version, position, topic, state, hash FROM ledger_events WHERE shard = %s"
            " AND originator_id = %s AND originator_version > %s AND originator_version <= %s"
            " ORDER BY originator_version",
            (shard, account_id, after, until),
        )
        while portion := cursor.fetchmany(FOLD_ROWS):
            yield from portion


class _OnFile:
    """Entries as they were at ``version``, the one that was kept last."""

    def __init__(self, connection: Connection, shard: int, team_id: str, version: int) -> None:
        self._connection, self._shard, self._team_id = connection, shard, team_id
        self.version = version

    def entries(self, places: Collection[tuple[KeptKind, str]]) -> Mapping[tuple[KeptKind, str], bytes]:
        """The newest entry of each."""
        if not self.version:
            return {}
        kinds, keys = [kind for kind, _ in places], [key for _, key in places]
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(
                "SELECT asked.kind, asked.key, newest.entry FROM unnest(%s::text[], %s::text[]) AS asked (kind, key)"
                " CROSS JOIN LATERAL (SELECT entry FROM kept_entry AS k WHERE k.shard = %s AND k.team_id = %s"
                '  AND k.kind = asked.kind AND k.key = asked.key COLLATE "C" AND k.version <= %s'
                "  ORDER BY k.version DESC LIMIT 1) AS newest",
                (kinds, keys, self._shard, self._team_id, self.version),
                binary=True,
            )
            return {(kind, key): entry for kind, key, entry in cursor.fetchall() if entry is not None}


def _write(connection: Connection, shard: int, team_id: str, kept: Kept, at: ChainedAt) -> int:
    """The snapshot is on file with its entries; returns 1."""
    state = sealed(kept.state, account_id(team_id), kept.version, at.hash)
    connection.execute(
        "INSERT INTO kept_head (shard, team_id, version, position, chain_hash, recorded_at, state, kept_schema)"
        " VALUES (%s, %s, %s, %s, %b, %s, %b, %s) ON CONFLICT (shard, team_id, version) DO UPDATE SET"
        " position = EXCLUDED.position, chain_hash = EXCLUDED.chain_hash, recorded_at = EXCLUDED.recorded_at,"
        " state = EXCLUDED.state, kept_schema = EXCLUDED.kept_schema",
        (shard, team_id, kept.version, at.position, at.hash, kept.recorded_at, state, KEPT_SCHEMA),
    )
    if kept.entries:
        kinds, keys, entries = zip(*kept.entries, strict=True)
        connection.execute(
            "INSERT INTO kept_entry (shard, team_id, kind, key, version, entry)"
            " SELECT %s, %s, kind, key, %s, entry FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS e (kind, key, entry)"
            " ON CONFLICT (shard, team_id, kind, key, version) DO UPDATE SET entry = EXCLUDED.entry",
            (shard, team_id, kept.version, list(kinds), list(keys), list(entries)),
        )
    return 1
