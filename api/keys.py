"""API keys: how one looks, how it is made, what is stored of it, and who it speaks for."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Generic, NamedTuple, Protocol, TypeVar
from zlib import crc32

import msgspec

from api.ports import TeamOnFile
from api.principals import Principal, member_principal
from domain.errors import Busy
from domain.team.keys import KEY_ID_LENGTH

PREFIX = "cof_live"
CACHE_SECONDS_MAX = 3.0
"""How long a key that was read is believed: a revocation is effective within this, five seconds being promised."""

USED_SECONDS_MIN = 60.0
"""How often, at most, it is noted that a key was used."""

OF_TEAM = "team"
"""In place of a role on a team's key: its member's role counts, as the team has it when the key is used."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = KEY_ID_LENGTH, 43, 6
_CACHED_MAX = 4_096
_NO_MAC = bytes(32)


class StoredKey(msgspec.Struct, frozen=True):
    """What the ledger keeps of a key: never the secret, only its HMAC under the pepper.

    ``name`` is the principal that the key speaks for; two keys of one name are one principal, so that keys can be rotated. A key
    of a service may list the ``teams`` and ``actions`` that it is for; a team's key has a ``team_id``, and what else is to be
    known of it is in the team's own stream.
    """

    key_id: str
    name: str
    role: str
    secret_mac: bytes
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    team_id: str | None = None
    teams: list[str] | None = None
    actions: list[str] | None = None
    scopes: list[str] | None = None
    last_used_at: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        """Whether the key is neither revoked nor expired at the instant."""
        return (self.revoked_at is None or self.revoked_at > at) and (
            self.expires_at is None or at < self.expires_at
        )


class KeyStore(Protocol):
    """Reads keys by id, and the teams that some belong to. Raises: Busy."""

    async def key(self, key_id: str) -> StoredKey | None:
        """The key as stored, whether or not it is still live."""
        ...

    async def team(self, team_id: str) -> TeamOnFile | None:
        """The team's people and keys now; None without an account."""
        ...

    async def add_key(self, key: StoredKey) -> bool:
        """The key is stored, unless one of its id is; whether it was."""
        ...

    async def keys_of(self, team_id: str) -> list[StoredKey]:
        """The keys that belong to a team, live or not."""
        ...

    async def note_used(self, key_id: str, at: datetime) -> None:
        """The key was used."""
        ...


class Parts(NamedTuple):
    """A key taken apart."""

    key_id: str
    secret: str


def new_key() -> Parts:
    """A fresh key id and a fresh secret of 256 random bits."""
    return Parts(
        "".join(secrets.choice(_DIGITS[:36].lower()) for _ in range(_ID_LENGTH)),
        _base62(secrets.randbits(256), _SECRET_LENGTH),
    )


def key_text(parts: Parts) -> str:
    """The key as its owner sees it, once: ``cof_live_<key id>_<secret><checksum>``."""
    body = f"{PREFIX}_{parts.key_id}_{parts.secret}"
    return body + _checksum(body)


def parse_key(text: str) -> Parts | None:
    """The parts of a well-formed key; None for anything else, told without asking the store."""
    if len(text) != len(PREFIX) + _ID_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH + 2 or not text.isascii():
        return None
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    if not body.startswith(f"{PREFIX}_") or checksum != _checksum(body):
        return None
    key_id, _, secret = body[len(PREFIX) + 1 :].partition("_")
    return Parts(key_id, secret) if len(key_id) == _ID_LENGTH and secret.isalnum() else None


def secret_mac(pepper: bytes, secret: str) -> bytes:
    """What is stored of the secret: HMAC-SHA-256 under the pepper. Random keys of 256 bits need no slow hash."""
    return hmac.digest(pepper, secret.encode(), hashlib.sha256)


def key_of_team(key_id: str, secret: str, team_id: str, pepper: bytes, at: datetime) -> StoredKey:
    """What is stored of a key that a team made for one of its members."""
    return StoredKey(
        key_id=key_id,
        name=f"team {team_id}",
        role=OF_TEAM,
        secret_mac=secret_mac(pepper, secret),
        created_at=at,
        team_id=team_id,
    )


class KeyRing:
    """Tells who a key speaks for; what was read of keys and teams is believed for ``CACHE_SECONDS_MAX``."""

    def __init__(
        self,
        store: KeyStore,
        pepper: bytes,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._now = now
        self._elapsed = elapsed
        self._keys: Believed[StoredKey] = Believed(self._key, elapsed)
        self._teams: Believed[TeamOnFile] = Believed(self._team, elapsed)
        self._noted: dict[str, datetime] = {}

    def now(self) -> datetime:
        """The clock by which keys expire."""
        return self._now()

    def forget(self) -> None:
        """Nothing is believed that was read before."""
        self._keys.forget()
        self._teams.forget()
        self._noted.clear()

    async def principal(self, text: str) -> Principal | None:
        """Who the key speaks for; None when it is malformed, unknown, expired, revoked, or its member has left."""
        parts = parse_key(text)
        if parts is None:
            return None
        stored = await self._keys.of(parts.key_id)
        # An unknown key is compared as well, so that the time taken does not tell which ids exist.
        mac = stored.secret_mac if stored else _NO_MAC
        good = hmac.compare_digest(mac, secret_mac(self._pepper, parts.secret))
        if stored is None or not good or not stored.is_live(self._now()):
            return None
        principal = await self._principal(stored)
        if principal is not None:
            await self._note_used(stored)
        return principal

    async def member(self, team_id: str, member: str) -> Principal | None:
        """The member as the team has it now; None for somebody who is not in it."""
        found = await self._teams.of(team_id)
        role = found.team.members.get(member) if found else None
        return member_principal(team_id, member, role.role) if role else None

    async def last_used(self, team_id: str) -> dict[str, datetime]:
        """When keys of the team were used last, by id; one that never was is absent."""
        stored = await self._store.keys_of(team_id)
        return {key.key_id: key.last_used_at for key in stored if key.last_used_at is not None}

    async def add(self, key_id: str, secret: str, team_id: str) -> bool:
        """A team's key has its secret, unless it got one before; whether it got this one."""
        return await self._store.add_key(key_of_team(key_id, secret, team_id, self._pepper, self._now()))

    # The store is asked by name, so that it need not be there before it is asked.
    async def _key(self, key_id: str) -> StoredKey | None:
        return await self._store.key(key_id)

    async def _team(self, team_id: str) -> TeamOnFile | None:
        return await self._store.team(team_id)

    async def _principal(self, stored: StoredKey) -> Principal | None:
        if stored.team_id is None:
            return Principal(
                stored.name,
                stored.role,
                stored.key_id,
                teams=_frozen(stored.teams),
                actions=_frozen(stored.actions),
                scopes=_frozen(stored.scopes),
            )
        found = await self._teams.of(stored.team_id)
        if found is None or stored.key_id not in found.team.keys:
            # A key that was made a moment ago works at once.
            found = await self._teams.read(stored.team_id)
        key = found.team.keys.get(stored.key_id) if found else None
        if found is None or key is None or (key.expires_at is not None and key.expires_at <= self._now()):
            return None
        role = found.team.members.get(key.member)
        if role is None:
            return None
        return member_principal(
            stored.team_id, key.member, role.role, key_id=stored.key_id, scopes=_frozen(key.scopes)
        )

    async def _note_used(self, stored: StoredKey) -> None:
        at = self._now()
        noted = self._noted.get(stored.key_id, stored.last_used_at)
        if noted is not None and at - noted < timedelta(seconds=USED_SECONDS_MIN):
            return
        if len(self._noted) >= _CACHED_MAX:
            self._noted.clear()
        self._noted[stored.key_id] = at
        # That a key was used is for people who tidy up; no request fails for it.
        with suppress(Busy):
            await self._store.note_used(stored.key_id, at)


T = TypeVar("T")


class Believed(Generic[T]):
    """What was read by id is believed for ``CACHE_SECONDS_MAX``; that there is nothing, as well."""

    def __init__(self, read: Callable[[str], Awaitable[T | None]], elapsed: Callable[[], float]) -> None:
        self._read_one = read
        self._elapsed = elapsed
        self._read: OrderedDict[str, tuple[float, T | None]] = OrderedDict()

    def forget(self) -> None:
        """Nothing that was read is believed any more."""
        self._read.clear()

    async def of(self, found_by: str) -> T | None:
        """What is stored under the id."""
        at = self._elapsed()
        read = self._read.get(found_by)
        if read is not None and at - read[0] < CACHE_SECONDS_MAX:
            return read[1]
        return await self.read(found_by)

    async def read(self, found_by: str) -> T | None:
        """What is stored under the id now."""
        at = self._elapsed()
        stored = await self._read_one(found_by)
        self._read[found_by] = (at, stored)
        self._read.move_to_end(found_by)
        while len(self._read) > _CACHED_MAX:
            self._read.popitem(last=False)
        return stored


def _frozen(listed: list[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
