"""Reads for people who wait: one team's head, events, claims and index, on an asynchronous pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import AsyncConnectionPool

from api.keys import StoredKey
from api.ports import AccountOnFile, DenialRepeats, StoredEvent, StoredTeamEvent, TeamOnFile
from domain.account.applying import fold
from domain.account.decision import account_id
from domain.account.events import ChargeRefunded, CreditsCharged, HoldCaptured, UsageWaived
from domain.account.index import EndedHold, IndexKind
from domain.account.state import STATE_SCHEMA, TeamAccount
from domain.errors import Busy
from domain.shards import shard_of
from domain.team.applying import fold as fold_team
from domain.team.state import TEAM_SCHEMA, Team, team_stream_id
from infra.postgres.archived import GONE, Gone, gone_values
from infra.postgres.connections import CONNECT_TIMEOUT_SECONDS, FIRST, Timeouts, session_options
from infra.postgres.heads import FOLD_ROWS, key_beyond, owner_mark, recorded_at_of
from infra.postgres.kept_heads import KEPT_ENTRIES, KEPT_HEAD, KEPT_LATEST, REFUNDS, kept_account
from infra.postgres.mapper import ACCOUNT_SHAPES, TEAM_SHAPES, decode_account, decode_team
from infra.postgres.sealing import is_sealed
from infra.postgres.shards import MAP_READS_MAX, ShardMap
from projections.keeping import KEPT_SCHEMA, KeptAccount, KeptKind

WAIT_SECONDS_MAX = 5.0
Pool: TypeAlias = "AsyncConnectionPool[AsyncConnection[TupleRow]]"

_CHARGED = (CreditsCharged, UsageWaived, HoldCaptured)
_REFUND_TOPICS = [ChargeRefunded.TOPIC, *ChargeRefunded.OLD_TOPICS]
_LAST_VERSION = (
    "SELECT greatest((SELECT max(originator_version) FROM ledger_events WHERE shard = %s AND originator_id = %s),"
    " (SELECT max(gone_through) FROM archive_stream WHERE shard = %s AND stream_id = %s), 0)"
)
_STATE_AT = (
    "SELECT state FROM ledger_events WHERE shard = %s AND originator_id = %s AND originator_version = %s"
)
KEY_COLUMNS = "key_id, name, role, secret_mac, created_at, expires_at, revoked_at, team_id, teams, actions, scopes, last_used_at"
"""In the order of ``StoredKey``."""

_EVENT = "originator_version, position, topic, state, previous_hash, hash"


class AsyncShards:
    """Connections for reads, to the database that holds a shard. A pool opens at first use, on the loop that uses it.

    Told no ``homes``, all shards live in the database at ``database_url``; else that is the first of them.
    """

    def __init__(
        self,
        database_url: str,
        shards: int,
        *,
        homes: ShardMap | None = None,
        timeouts: Timeouts | None = None,
        connections_max: int = 8,
    ) -> None:
        self.count = shards
        self._database_url = database_url
        self._homes = homes if homes is not None and len(homes.databases) > 1 else None
        self._timeouts = timeouts or Timeouts()
        self._connections_max = connections_max
        self._pools: dict[str, Pool] = {}
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection_for(self, shard: int) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection in autocommit. Raises: Busy when the database does not answer within its bounds."""
        assert 0 <= shard < self.count, f"shard {shard} is none of 0 to {self.count - 1}"
        try:
            if self._homes is None:
                async with self._connection_to(FIRST) as connection:
                    yield connection
                return
            for _ in range(MAP_READS_MAX):
                home = await asyncio.to_thread(self._homes.home_of, shard)
                async with self._connection_to(home) as connection:
                    if await _lives_there(connection, shard):
                        yield connection
                        return
                self._homes.forget(shard, home)
            raise Busy(f"shard {shard} is moved again and again: try later")
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Busy(f"the database did not answer in time: {error}") from error

    @asynccontextmanager
    async def first_connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection in autocommit to the database that also holds what belongs to no shard. Raises: Busy."""
        try:
            async with self._connection_to(FIRST) as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Busy(f"the database did not answer in time: {error}") from error

    async def close(self) -> None:
        """No connection is open any more."""
        while self._pools:
            await self._pools.popitem()[1].close()

    @asynccontextmanager
    async def _connection_to(self, name: str) -> AsyncIterator[AsyncConnection[TupleRow]]:
        pool = await self._opened(name)
        async with pool.connection() as connection:
            yield connection

    async def _opened(self, name: str) -> Pool:
        async with self._opening:
            if name not in self._pools:
                pool = AsyncConnectionPool(
                    self._database_url if self._homes is None else self._homes.url_of(name),
                    kwargs={
                        "autocommit": True,
                        "row_factory": tuple_row,
                        "options": session_options(self._timeouts, "-c default_transaction_read_only=on"),
                        "application_name": "coffer api reads",
                        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                    },
                    min_size=1,
                    max_size=self._connections_max,
                    timeout=WAIT_SECONDS_MAX,
                    # A connection that died while it waited is noticed before a request gets it.
                    check=AsyncConnectionPool.check_connection,
                    open=False,
                )
                await pool.open()
                self._pools[name] = pool
            return self._pools[name]


async def _lives_there(connection: AsyncConnection[TupleRow], shard: int) -> bool:
    cursor = await connection.execute("SELECT lives_here FROM shard_log WHERE shard = %s", (shard,))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


class PostgresAccountReads:
    """The API's reads of accounts, and of API keys. Told no other clock, the database's decides."""

    def __init__(self, shards: AsyncShards, *, now: Callable[[], datetime] | None = None) -> None:
        self._shards = shards
        self._now = now

    async def account(self, team_id: str) -> AccountOnFile | None:
        """Head, position of the shard and clock of one statement, so of one instant."""
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            "SELECT h.state, h.state_schema, h.version, h.chain_hash, l.position, clock_timestamp()"
            " FROM account_head h JOIN shard_log l ON l.shard = h.shard WHERE h.shard = %s AND h.team_id = %s",
            (shard, team_id),
        )
        if not rows:
            return None
        state, schema, version, chain_hash, position, now = rows[0]
        now = self._now() if self._now else now
        if schema == STATE_SCHEMA and is_sealed(state, account_id(team_id), version, chain_hash):
            return AccountOnFile(decode_account(state), position, now)
        return AccountOnFile(await self._fold_again(team_id, version), position, now)

    async def events(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredEvent]:
        """As the port says."""
        rows = await self._stream(team_id, account_id(team_id), after, until, limit, newest_first)
        return [_stored(row) for row in rows]

    async def team(self, team_id: str) -> TeamOnFile | None:
        """Head, position of the shard and clock of one statement, so of one instant."""
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            "SELECT t.state, t.state_schema, t.version, l.position, clock_timestamp() FROM account_head h"
            " JOIN shard_log l ON l.shard = h.shard LEFT JOIN team_head t ON (t.shard, t.team_id) = (h.shard, h.team_id)"
            " WHERE h.shard = %s AND h.team_id = %s",
            (shard, team_id),
        )
        if not rows:
            return None
        state, schema, version, position, now = rows[0]
        now = self._now() if self._now else now
        if schema is None:
            return TeamOnFile(Team(team_id=team_id), position, now)
        if schema == TEAM_SCHEMA:
            return TeamOnFile(decode_team(state), position, now)
        return TeamOnFile(await self._fold_team_again(team_id, version), position, now)

    async def paperwork(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredTeamEvent]:
        """As the port says."""
        rows = await self._stream(team_id, team_stream_id(team_id), after, until, limit, newest_first)
        return [_stored_paperwork(row) for row in rows]

    async def version_at(self, team_id: str, position: int) -> int:
        """Found from the newest event backwards: as many steps as the reader is behind.

        Raises: EventsArchived when only an archive could say.
        """
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            "SELECT originator_version FROM ledger_events WHERE shard = %s AND originator_id = %s AND position <= %s"
            " ORDER BY originator_version DESC LIMIT 1",
            (shard, account_id(team_id), position),
        )
        version = int(rows[0][0]) if rows else 0
        for part in await self._gone(shard, account_id(team_id), version, None):
            if part.first_position > position:
                break
            if part.last_position > position:
                raise part.error()
            version = part.through
        return version

    async def version_as_of(self, team_id: str, at: datetime) -> int:
        """Found by halving, on one connection: ``recorded_at`` never decreases within a stream.

        Raises: EventsArchived when only an archive could say.
        """
        shard, originator = self._shard(team_id), account_id(team_id)
        async with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(_LAST_VERSION, (shard, originator, shard, originator))
            row = await cursor.fetchone()
            by_then, beyond = 0, (row[0] if row else 0) + 1
            while beyond - by_then > 1:
                middle = (by_then + beyond) // 2
                await cursor.execute(_STATE_AT, (shard, originator, middle), binary=True)
                row = await cursor.fetchone()
                if row is None:
                    await cursor.execute(
                        GONE, gone_values(shard, [originator], middle - 1, middle), binary=True
                    )
                    parts = await cursor.fetchall()
                    assert parts, f"version {middle} of team {team_id!r} is missing"
                    is_by_then = Gone._make(parts[0]).is_before(at)
                else:
                    is_by_then = recorded_at_of(row[0]) <= at
                if is_by_then:
                    by_then = middle
                else:
                    beyond = middle
        return by_then

    async def usage(self, team_id: str, usage_key: str) -> StoredEvent | None:
        """The event with the claim, if it is this team's: usage or a capture; other identities in the same column are neither."""
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            f"SELECT {_EVENT} FROM ledger_events WHERE shard = %s AND usage_key = %s AND originator_id = %s",  # noqa: S608 - from constants
            (shard, UUID(hex=usage_key), account_id(team_id)),
        )
        if not rows:
            await self._refuse_archived_charge(shard, account_id(team_id), usage_key)
        stored = [_stored(row) for row in rows]
        return next((each for each in stored if isinstance(each.event, _CHARGED)), None)

    async def _refuse_archived_charge(self, shard: int, originator: UUID, usage_key: str) -> None:
        """The charge is none that an archive holds. Raises: EventsArchived."""
        claims = await self._rows(
            shard,
            "SELECT originator_version FROM archived_claim WHERE shard = %s AND usage_key = %s AND owner = %s"
            " AND topic IS NULL",
            (shard, UUID(hex=usage_key), owner_mark(originator)),
        )
        for (version,) in claims:
            for part in await self._gone(shard, originator, version - 1, version):
                raise part.error()

    async def refunds(self, team_id: str, charge_id: str, after: int) -> list[StoredEvent]:
        """Read from the stream itself, not from a projection that may be behind; asked only of charges with refunds."""
        shard = self._shard(team_id)
        values = {
            "shard": shard,
            "team": team_id,
            "account": account_id(team_id),
            "schema": KEPT_SCHEMA,
            "since": after,
            "topics": _REFUND_TOPICS,
            "charge": charge_id,
            "charge_bytes": charge_id.encode(),
        }
        rows = await self._rows(shard, REFUNDS.format(columns=_EVENT), values)
        for part in await self._gone(shard, account_id(team_id), after, None):
            raise part.error()
        # Spans overlap where rows were deleted by hand.
        stored = {row[0]: _stored(row) for row in rows}
        return [
            each
            for each in stored.values()
            if isinstance(each.event, ChargeRefunded) and each.event.charge_id == charge_id
        ]

    async def entries(self, team_id: str, kind: IndexKind, keys: Collection[str]) -> dict[str, bytes]:
        """The index entries of these keys."""
        if not keys:
            return {}
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            "SELECT key, entry FROM account_index WHERE shard = %s AND team_id = %s AND kind = %s AND key = ANY(%s)",
            (shard, team_id, kind, list(keys)),
        )
        return dict(rows)

    async def latest(
        self, team_id: str, kind: IndexKind, *, prefix: str = "", before: str | None = None, limit: int
    ) -> list[tuple[str, bytes]]:
        """As the port says, by a range of the index."""
        shard = self._shard(team_id)
        ends = [end for end in (before, key_beyond(prefix)) if end is not None]
        below, bounds = (" AND key < %s", [min(ends)]) if ends else ("", [])
        return await self._rows(
            shard,
            "SELECT key, entry FROM account_index WHERE shard = %s AND team_id = %s AND kind = %s AND key >= %s"  # noqa: S608 - constants
            f"{below} ORDER BY key DESC LIMIT %s",
            (shard, team_id, kind, prefix, *bounds, limit),
        )

    async def kept(self, team_id: str, version: int) -> KeptAccount | None:
        """As the port says."""
        shard = self._shard(team_id)
        values = (shard, team_id, version, KEPT_SCHEMA, account_id(team_id))
        rows = await self._rows(shard, KEPT_HEAD, values)
        return kept_account(account_id(team_id), rows[0]) if rows else None

    async def kept_entries(
        self, team_id: str, version: int, kind: KeptKind, keys: Collection[str]
    ) -> dict[str, bytes] | None:
        """As the port says, by a statement that also says whether the account is still kept there."""
        shard = self._shard(team_id)
        values = {"shard": shard, "team": team_id, "version": version, "schema": KEPT_SCHEMA}
        rows = await self._rows(shard, KEPT_ENTRIES, values | {"kind": kind, "keys": list(keys)})
        found = {key: entry for key, entry in rows if entry is not None}
        return found if any(key is None for key, _ in rows) else None

    async def kept_latest(
        self,
        team_id: str,
        version: int,
        kind: KeptKind,
        *,
        prefix: str = "",
        before: str | None = None,
        limit: int,
    ) -> list[tuple[str, bytes]] | None:
        """As the port says, by a range of what is kept."""
        shard = self._shard(team_id)
        ends = [end for end in (before, key_beyond(prefix)) if end is not None]
        values = {"shard": shard, "team": team_id, "version": version, "schema": KEPT_SCHEMA, "kind": kind}
        bounds = {"prefix": prefix, "limit": limit} | ({"below": min(ends)} if ends else {})
        query = KEPT_LATEST.format(below=" AND key < %(below)s" if ends else "")
        rows = await self._rows(shard, query, values | bounds)
        found = sorted(((key, entry) for key, entry in rows if key is not None), reverse=True)
        return found if len(found) < len(rows) else None

    async def ended_holds(
        self, team_id: str, *, before: str | None = None, limit: int
    ) -> list[tuple[str, EndedHold]]:
        """As the port says. Ids of holds count up, so of two the longer, then the greater, is the newer."""
        shard = self._shard(team_id)
        below, bounds = (" AND (length(key), key) < (%s, %s)", [len(before), before]) if before else ("", [])
        rows = await self._rows(
            shard,
            "SELECT key, entry FROM account_index WHERE shard = %s AND team_id = %s AND kind = 'hold'"  # noqa: S608 - constants
            f"{below} ORDER BY length(key) DESC, key DESC LIMIT %s",
            (shard, team_id, *bounds, limit),
        )
        return [(key, msgspec.json.decode(entry, type=EndedHold)) for key, entry in rows]

    async def denial_repeats(self, team_id: str, versions: Collection[int]) -> dict[int, DenialRepeats]:
        """As the port says."""
        if not versions:
            return {}
        shard = self._shard(team_id)
        rows = await self._rows(
            shard,
            "SELECT version, repeats, last_at FROM denial_repeat WHERE shard = %s AND team_id = %s AND version = ANY(%s)",
            (shard, team_id, list(versions)),
        )
        return {version: DenialRepeats(repeats, last_at) for version, repeats, last_at in rows}

    async def key(self, key_id: str) -> StoredKey | None:
        """The API key of that id."""
        rows = await self._first_rows(f"SELECT {KEY_COLUMNS} FROM api_key WHERE key_id = %s", (key_id,))  # noqa: S608 - from constants
        return StoredKey(*rows[0]) if rows else None

    async def keys_of(self, team_id: str) -> list[StoredKey]:
        """The API keys that belong to a team."""
        rows = await self._first_rows(
            f"SELECT {KEY_COLUMNS} FROM api_key WHERE team_id = %s ORDER BY created_at",  # noqa: S608 - from constants
            (team_id,),
        )
        return [StoredKey(*row) for row in rows]

    async def missing(self) -> list[str]:
        """What is missing before requests can be answered."""
        try:
            rows = await self._first_rows("SELECT shards FROM installation", ())
        except (Busy, psycopg.Error) as error:
            return [f"the database is not ready: {type(error).__name__}"]
        if not rows or rows[0][0] != self._shards.count:
            return ["the database is installed with another number of shards: restart this process"]
        return []

    async def _stream(
        self,
        team_id: str,
        stream_id: UUID,
        after: int | None,
        until: int | None,
        limit: int,
        newest_first: bool,
    ) -> list[TupleRow]:
        """A part of a stream of the team."""
        shard = self._shard(team_id)
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        start = after if after is not None else (2**62 if newest_first else 0)
        last = 2**62 if until is None else until
        rows = await self._rows(
            shard,
            f"SELECT {_EVENT} FROM ledger_events WHERE shard = %s AND originator_id = %s"  # noqa: S608 - from constants
            f" AND originator_version {beyond} %s AND originator_version <= %s"
            f" ORDER BY originator_version {order} LIMIT %s",
            (shard, stream_id, start, last, limit),
        )
        versions = sorted(row[0] for row in rows)
        bounds = (0, min(start - 1, last)) if newest_first else (start, last)
        for missing in _missing(versions, *bounds, is_cut=len(rows) == limit, newest_first=newest_first):
            for part in await self._gone(shard, stream_id, *missing):
                raise part.error()
        return rows

    async def _gone(self, shard: int, stream_id: UUID, after: int, until: int | None) -> list[Gone]:
        """What only archives hold of the stream, within these versions, in order."""
        rows = await self._rows(shard, GONE, gone_values(shard, [stream_id], after, until))
        return [Gone._make(row) for row in rows]

    def _shard(self, team_id: str) -> int:
        return shard_of(team_id, self._shards.count)

    async def _first_rows(self, query: str, values: Sequence[object]) -> list[TupleRow]:
        """Rows of what belongs to no shard."""
        async with self._shards.first_connection() as connection:
            cursor = await connection.execute(query.encode(), values, binary=True)
            return await cursor.fetchall()

    async def _rows(
        self, shard: int, query: str, values: Sequence[object] | Mapping[str, object]
    ) -> list[TupleRow]:
        async with self._shards.connection_for(shard) as connection:
            cursor = await connection.execute(query.encode(), values, binary=True)
            return await cursor.fetchall()

    async def _fold_again(self, team_id: str, version: int) -> TeamAccount:
        """A head of another schema is not believed: the account is folded from its events, a portion at a time."""
        folded: TeamAccount | None = None
        while folded is None or folded.version < version:
            after = folded.version if folded else 0
            page = await self.events(team_id, after=after, until=version, limit=FOLD_ROWS)
            assert page, f"the account of team {team_id!r} has a head at {version} and no event after {after}"
            folded, _ = fold(folded, (stored.event for stored in page))
        return folded

    async def _fold_team_again(self, team_id: str, version: int) -> Team:
        """A head of another schema is not believed: the team is folded from its events, a portion at a time."""
        folded = Team(team_id=team_id)
        while folded.version < version:
            page = await self.paperwork(team_id, after=folded.version, until=version, limit=FOLD_ROWS)
            assert page, f"team {team_id!r} has a head at {version} and no event after {folded.version}"
            fold_team(folded, (stored.event for stored in page))
        return folded


def _missing(
    versions: Sequence[int], after: int, until: int, *, is_cut: bool, newest_first: bool
) -> Iterator[tuple[int, int]]:
    """The versions beyond ``after`` up to ``until`` that a page, in ascending order, should have and has not.

    One that is cut ends where it ends; on its other side it begins with the first that there is.
    """
    if is_cut:
        after, until = (versions[0] - 1, until) if newest_first else (after, versions[-1])
    for version in versions:
        if version > after + 1:
            yield after, version - 1
        after = version
    if until > after:
        yield after, until


def _stored_paperwork(row: TupleRow) -> StoredTeamEvent:
    version, position, topic, state, previous_hash, chained = row
    return StoredTeamEvent(
        version, position, topic, state, previous_hash, chained, TEAM_SHAPES.decode(topic, state)
    )


def _stored(row: TupleRow) -> StoredEvent:
    version, position, topic, state, previous_hash, chained = row
    return StoredEvent(
        version, position, topic, state, previous_hash, chained, ACCOUNT_SHAPES.decode(topic, state)
    )
