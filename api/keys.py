"""API keys: how one looks, how it is made, what is stored of it, and who it speaks for."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

PREFIX = "cof_live"
CACHE_SECONDS_MAX = 3.0
"""How long a key that was read is believed: a revocation is effective within this, five seconds being promised."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 12, 43, 6
_CACHED_KEYS_MAX = 4_096
_NO_MAC = bytes(32)


class StoredKey(msgspec.Struct, frozen=True):
    """What the ledger keeps of a key: never the secret, only its HMAC under the pepper.

    ``name`` is the principal that the key speaks for; two keys of one name are one principal, so that keys can be rotated.
    """

    key_id: str
    name: str
    role: str
    secret_mac: bytes
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        """Whether the key is neither revoked nor expired at the instant."""
        return (self.revoked_at is None or self.revoked_at > at) and (
            self.expires_at is None or at < self.expires_at
        )


class Principal(msgspec.Struct, frozen=True):
    """Who a request comes from: a name, the role its key has, and the id of that key."""

    name: str
    role: str
    key_id: str


class KeyStore(Protocol):
    """Reads keys by id."""

    async def key(self, key_id: str) -> StoredKey | None:
        """The key as stored, whether or not it is still live."""
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


class KeyRing:
    """Tells who a key speaks for; what was read of a key is believed for ``CACHE_SECONDS_MAX``."""

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
        self._read: OrderedDict[str, tuple[float, StoredKey | None]] = OrderedDict()

    async def principal(self, text: str) -> Principal | None:
        """Who the key speaks for; None when it is malformed, unknown, expired or revoked."""
        parts = parse_key(text)
        if parts is None:
            return None
        stored = await self._stored(parts.key_id)
        # An unknown key is compared as well, so that the time taken does not tell which ids exist.
        mac = stored.secret_mac if stored else _NO_MAC
        good = hmac.compare_digest(mac, secret_mac(self._pepper, parts.secret))
        if stored is None or not good or not stored.is_live(self._now()):
            return None
        return Principal(stored.name, stored.role, stored.key_id)

    async def _stored(self, key_id: str) -> StoredKey | None:
        at = self._elapsed()
        read = self._read.get(key_id)
        if read is not None and at - read[0] < CACHE_SECONDS_MAX:
            return read[1]
        stored = await self._store.key(key_id)
        self._read[key_id] = (at, stored)
        self._read.move_to_end(key_id)
        while len(self._read) > _CACHED_KEYS_MAX:
            self._read.popitem(last=False)
        return stored


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
