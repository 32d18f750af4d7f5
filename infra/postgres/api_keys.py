"""API keys of services in the database: made, listed, revoked; two live ones per principal, so that they can be rotated."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import msgspec
import psycopg
from psycopg.rows import tuple_row

from api.fields import ID_PATTERN
from api.keys import StoredKey, key_text, new_key, secret_mac
from api.ports import TeamOnFile
from api.roles import LINES, SERVICE_ROLES
from domain.errors import Busy, Malformed, Refused, Unknown
from domain.team.ranks import MEMBER_PREFIX
from infra.postgres.account_reads import KEY_COLUMNS, PostgresAccountReads
from infra.postgres.shards import ShardMap

LIVE_KEYS_MAX = 2
BREAK_GLASS_HOURS_MAX = 8
"""A key that opens everything is for an emergency, which is over or handed on after a shift."""


class Bounds(msgspec.Struct, frozen=True):
    """What a key is for: the teams and actions that it lists, and the lines of the table of roles; None: no bound."""

    teams: Sequence[str] | None = None
    actions: Sequence[str] | None = None
    scopes: Sequence[str] | None = None


UNBOUND = Bounds()

T = TypeVar("T")


class ApiKeys:
    """The keys of one installation; they live with its first shard."""

    def __init__(self, shards: ShardMap, pepper: bytes) -> None:
        self._shards = shards
        self._pepper = pepper

    def create(
        self, name: str, role: str, valid_for: timedelta | None = None, bounds: Bounds = UNBOUND
    ) -> tuple[str, StoredKey]:
        """A new live key of the principal ``name``: its text, which is told this once, and what is stored of it.

        Raises: Malformed for an unknown role or scope, a member's name, a break-glass key for longer than a shift, an ingest key
        that lists no teams; Refused.
        """
        _check(name, role, valid_for, bounds)
        parts = new_key()
        with self._shards.first_connection() as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"api key {name}",))
            cursor.execute("SELECT clock_timestamp()")
            now: datetime = _only(cursor.fetchone())
            live = [key for key in self._named(name) if key.is_live(now)]
            _check_live(name, role, live)
            stored = StoredKey(
                key_id=parts.key_id,
                name=name,
                role=role,
                secret_mac=secret_mac(self._pepper, parts.secret),
                created_at=now,
                expires_at=now + valid_for if valid_for else None,
                teams=_listed(bounds.teams),
                actions=_listed(bounds.actions),
                scopes=_listed(bounds.scopes),
            )
            cursor.execute(
                f"INSERT INTO api_key ({KEY_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608 - from constants
                msgspec.structs.astuple(stored),
            )
        return key_text(parts), stored

    def all(self) -> list[StoredKey]:
        """Every key of a service, live or not, by name and age; those of teams are their own business."""
        return self._select("team_id IS NULL", ())

    def of_team(self, team_id: str) -> list[StoredKey]:
        """The keys that belong to a team, live or not."""
        return self._select("team_id = %s", (team_id,))

    def revoke(self, key_id: str) -> StoredKey:
        """The service's key opens nothing from now on; servers notice within five seconds. Raises: Unknown."""
        with self._shards.first_connection() as connection:
            connection.execute(
                "UPDATE api_key SET revoked_at = clock_timestamp()"
                " WHERE key_id = %s AND team_id IS NULL AND revoked_at IS NULL",
                (key_id,),
            )
        found = self._select("key_id = %s AND team_id IS NULL", (key_id,))
        if not found:
            raise Unknown(f"key {key_id[:40]!r} does not exist: see `coffer keys list`", key_id=key_id[:40])
        return found[0]

    def add(self, key: StoredKey) -> bool:
        """The key of a team is stored, unless one of its id is; whether it was."""
        with self._shards.first_connection() as connection:
            added = connection.execute(
                f"INSERT INTO api_key ({KEY_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 - from constants
                " ON CONFLICT (key_id) DO NOTHING",
                msgspec.structs.astuple(key),
            )
        return added.rowcount == 1

    def note_used(self, key_id: str, at: datetime) -> None:
        """When the key was used last."""
        with self._shards.first_connection() as connection:
            connection.execute(
                "UPDATE api_key SET last_used_at = greatest(last_used_at, %s) WHERE key_id = %s", (at, key_id)
            )

    def _named(self, name: str) -> list[StoredKey]:
        return self._select("name = %s", (name,))

    def _select(self, condition: str, values: tuple[object, ...]) -> list[StoredKey]:
        query = f"SELECT {KEY_COLUMNS} FROM api_key WHERE {condition} ORDER BY name, created_at"  # noqa: S608 - from constants
        with (
            self._shards.first_connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(query.encode(), values)
            return [StoredKey(*row) for row in cursor.fetchall()]


class ServedKeys:
    """Keys as a server asks for them: read on its pool, written in threads. Raises: Busy."""

    def __init__(self, reads: PostgresAccountReads, keys: ApiKeys) -> None:
        self._reads = reads
        self._keys = keys

    async def key(self, key_id: str) -> StoredKey | None:
        """The key of that id."""
        return await self._reads.key(key_id)

    async def keys_of(self, team_id: str) -> list[StoredKey]:
        """The keys that belong to a team."""
        return await self._reads.keys_of(team_id)

    async def team(self, team_id: str) -> TeamOnFile | None:
        """The team's people and keys."""
        return await self._reads.team(team_id)

    async def add_key(self, key: StoredKey) -> bool:
        """The key is stored, unless one of its id is."""
        return await _written(partial(self._keys.add, key))

    async def note_used(self, key_id: str, at: datetime) -> None:
        """When the key was used last."""
        await _written(partial(self._keys.note_used, key_id, at))


async def _written(write: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(write)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Busy(f"the database did not answer in time: {error}") from error


def _check(name: str, role: str, valid_for: timedelta | None, bounds: Bounds) -> None:
    if role not in SERVICE_ROLES:
        raise Malformed(f"role {role[:40]!r}: one of {', '.join(SERVICE_ROLES)} would be right", field="role")
    if name.startswith(MEMBER_PREFIX):
        raise Malformed(
            f"name {name[:40]!r}: {MEMBER_PREFIX!r} is before the names of members only", field="name"
        )
    if role == "break-glass" and (valid_for is None or valid_for > timedelta(hours=BREAK_GLASS_HOURS_MAX)):
        raise Malformed(
            f"a break-glass key lasts {BREAK_GLASS_HOURS_MAX} hours at most: say how many", field="hours"
        )
    if role == "ingest" and not bounds.teams:
        raise Malformed("an ingest key lists the teams that it may bill: name them", field="teams")
    for team in bounds.teams or ():
        if not re.fullmatch(ID_PATTERN, team):
            raise Malformed(f"team {team[:40]!r} is no id of a team", field="teams")
    for scope in bounds.scopes or ():
        if scope not in LINES:
            raise Malformed(f"scope {scope[:40]!r}: one of {', '.join(LINES)} would be right", field="scopes")


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return sorted(set(names)) if names else None


def _check_live(name: str, role: str, live: list[StoredKey]) -> None:
    if any(key.role != role for key in live):
        raise Refused(
            f"{name!r} has a live key with role {live[0].role!r}: one principal has one role, choose another name",
            name=name[:80],
        )
    if len(live) >= LIVE_KEYS_MAX:
        raise Refused(
            f"{name!r} has {LIVE_KEYS_MAX} live keys: revoke one of {', '.join(key.key_id for key in live)} first",
            name=name[:80],
        )


def _only(row: tuple[datetime] | None) -> datetime:
    assert row is not None
    return row[0]
