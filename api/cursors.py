"""Cursors of lists: opaque, signed, and good only for the list they were made for."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping

import msgspec

from api.errors import CursorRefused

LIMIT_MAX = 500
LIMIT_DEFAULT = 100
CURSOR_LENGTH_MAX = 200
LONG_CURSOR_LENGTH_MAX = 300
"""Of a list in which a place has two ids."""

_MAC_LENGTH = 16
_PURPOSE = b"coffer cursor 1"


class Cursors:
    """Makes and reads cursors: a place in the list, bound by HMAC to the team, the route and the filters."""

    def __init__(self, pepper: bytes) -> None:
        self._secret = hmac.digest(pepper, _PURPOSE, hashlib.sha256)

    def write(self, place: int | str, team_id: str, route: str, filters: Mapping[str, str | None]) -> str:
        """The cursor that continues the list after ``place``; of one list all places are numbers, or all are texts."""
        payload = str(place).encode()
        return urlsafe_b64encode(self._mac(payload, team_id, route, filters) + payload).decode().rstrip("=")

    def read(self, text: str, team_id: str, route: str, filters: Mapping[str, str | None]) -> int:
        """The place, a number, where the list goes on.

        Raises: CursorRefused unless this ledger made the cursor for this team, route and filters.
        """
        return int(self.read_text(text, team_id, route, filters))

    def read_text(self, text: str, team_id: str, route: str, filters: Mapping[str, str | None]) -> str:
        """The place, a text, where the list goes on. Raises: as ``read``."""
        try:
            raw = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)) if text.isascii() else b""
        except NotBase64:
            raw = b""
        mac, payload = raw[:_MAC_LENGTH], raw[_MAC_LENGTH:]
        if payload and hmac.compare_digest(mac, self._mac(payload, team_id, route, filters)):
            return payload.decode()
        raise CursorRefused(
            f"after {text[:40]!r} is not a cursor of this list: take 'next' of the page before, with the same filters",
            field="after",
        )

    def _mac(self, payload: bytes, team_id: str, route: str, filters: Mapping[str, str | None]) -> bytes:
        bound = msgspec.json.encode([team_id, route, sorted(filters.items())])
        return hmac.digest(self._secret, bound + b"\n" + payload, hashlib.sha256)[:_MAC_LENGTH]
