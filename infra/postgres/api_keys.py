"""API keys in the database: made, listed, revoked; two live ones per principal, so that they can be rotated."""

from __future__ import annotations

from datetime import datetime, timedelta

from psycopg.rows import tuple_row

from api.keys import StoredKey, key_text, new_key, secret_mac
from api.roles import ROLES
from domain.errors import Malformed, Refused, Unknown
from infra.postgres.shards import ShardMap

LIVE_KEYS_MAX = 2
_COLUMNS = "key_id, name, role, secret_mac, created_at, expires_at, revoked_at"


class ApiKeys:
    """The keys of one installation; they live with its first shard."""

    def __init__(self, shards: ShardMap, pepper: bytes) -> None:
        self._shards = shards
        self._pepper = pepper

    def create(self, name: str, role: str, valid_for: timedelta | None = None) -> tuple[str, StoredKey]:
        """A new live key of the principal ``name``: its text, which is told this once, and what is stored of it.

        Raises: Malformed for an unknown role; Refused.
        """
        if role not in ROLES:
            raise Malformed(f"role {role[:40]!r}: one of {', '.join(ROLES)} would be right", field="role")
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
            )
            cursor.execute(
                f"INSERT INTO api_key ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, NULL)",  # noqa: S608 - from constants
                (
                    stored.key_id,
                    stored.name,
                    stored.role,
                    stored.secret_mac,
                    stored.created_at,
                    stored.expires_at,
                ),
            )
        return key_text(parts), stored

    def all(self) -> list[StoredKey]:
        """Every key, live or not, by name and age."""
        return self._select("true", ())

    def revoke(self, key_id: str) -> StoredKey:
        """The key opens nothing from now on; servers notice within five seconds. Raises: Unknown."""
        with self._shards.first_connection() as connection:
            connection.execute(
                "UPDATE api_key SET revoked_at = clock_timestamp() WHERE key_id = %s AND revoked_at IS NULL",
                (key_id,),
            )
        found = self._select("key_id = %s", (key_id,))
        if not found:
            raise Unknown(f"key {key_id[:40]!r} does not exist: see `coffer keys list`", key_id=key_id[:40])
        return found[0]

    def _named(self, name: str) -> list[StoredKey]:
        return self._select("name = %s", (name,))

    def _select(self, condition: str, values: tuple[object, ...]) -> list[StoredKey]:
        query = f"SELECT {_COLUMNS} FROM api_key WHERE {condition} ORDER BY name, created_at"  # noqa: S608 - from constants
        with (
            self._shards.first_connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(query.encode(), values)
            return [StoredKey(*row) for row in cursor.fetchall()]


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
