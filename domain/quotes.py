"""A price that the ledger honours until it expires, as a signed token: who carries it cannot change it.

    token = base64url(payload) "." base64url(HMAC-SHA-256(key, payload)), both without padding

The payload is canonical JSON (sorted keys, no spaces, UTF-8). That a quote is used once, and not withdrawn, is known to the
account; that it is the asking team's own is for the caller to see.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from domain.amounts import AMOUNT_MAX
from domain.errors import Malformed, QuoteNotOurs
from domain.terms import CardPin

TOKEN_CHARACTERS_MAX = 8_192
KEY_BYTES_MIN = 32

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_Micros = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]


class Quote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a use costs, by which version of which card, and until when (excluded) a hold may name it.

    It binds the total, not the credits: whether they are available is seen when the hold is placed. ``computation`` is the
    canonical JSON of the price (see ``domain.pricing``).
    """

    quote_id: str
    team_id: str
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    project: str | None = None
    card: CardPin
    computation: msgspec.Raw
    total_micros: _Micros
    issued_at: _Instant
    expires_at: _Instant


_decode = msgspec.json.Decoder(Quote).decode


def sign_quote(quote: Quote, key: bytes) -> str:
    """The quote as a token that ``read_quote`` takes while it knows the key.

    Raises: Malformed for one whose token would be longer than ``TOKEN_CHARACTERS_MAX``.
    """
    assert len(key) >= KEY_BYTES_MIN, "a short key can be guessed"
    payload = msgspec.json.encode(quote, order="sorted")
    token = f"{_text(payload)}.{_text(_mac(payload, key))}"
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Malformed(
            f"the quote would be a token of {len(token)} characters, and at most {TOKEN_CHARACTERS_MAX} are carried: "
            "give fewer meters and dimensions, or ask for an estimate",
            field="dimensions",
        )
    return token


def read_quote(token: str, keys: Sequence[bytes]) -> Quote:
    """The quote that was signed, unchanged, by one of the keys. Expiry, use and team are for the caller to judge.

    Raises: QuoteNotOurs for any other text, and for a quote of a shape that this code does not know.
    """
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise _not_ours(f"has {len(token)} characters, more than any of ours")
    payload_text, _, mac_text = token.partition(".")
    payload, mac = _bytes(payload_text), _bytes(mac_text)
    # In constant time: how long it takes tells nothing about how near a forgery came.
    if not any(hmac.compare_digest(mac, _mac(payload, key)) for key in keys):
        raise _not_ours("was not signed by this ledger, or was changed since")
    try:
        return _decode(payload)
    except msgspec.DecodeError as error:
        raise _not_ours("is of a shape that is not known here") from error


def _mac(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """The bytes that were written so, and in no other way: one quote has one token."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise _not_ours("is not base64url") from error
    if _text(data) != text:
        raise _not_ours("is not base64url as it is written here")
    return data


def _not_ours(why: str) -> QuoteNotOurs:
    return QuoteNotOurs(f"the quote {why}: send the token as it was given, whole", field="quote")
