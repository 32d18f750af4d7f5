"""A quote is carried by whoever asked for it, and comes back as it was given or not at all."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import LedgerError, Malformed, QuoteNotOurs
from domain.quotes import TOKEN_CHARACTERS_MAX, Quote, read_quote, sign_quote
from domain.terms import CardPin

NOW = datetime(2026, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
KEY, OLDER_KEY, OTHER_KEY = b"k" * 32, b"o" * 32, b"x" * 32


def a_quote(**changes: object) -> Quote:
    quote = Quote(
        quote_id="quote-1",
        team_id="acme",
        action="video.generate",
        meters={"seconds": "8.5", "frames": "204"},
        dimensions={"resolution": "1080p", "model": "größe-2"},
        project="spring",
        card=CardPin("standard", 3, "ab" * 32),
        computation=msgspec.Raw(b'{"action":"video.generate","amount":"18.36"}'),
        total_micros=18_360_000,
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=15),
    )
    return msgspec.structs.replace(quote, **changes)


def told(quote: Quote) -> dict[str, object]:
    """All that a quote says, the computation as its bytes."""
    return msgspec.structs.asdict(quote) | {"computation": bytes(quote.computation)}


def signed(payload: bytes, key: bytes = KEY) -> str:
    """A token made by hand, as the module's first page says."""
    mac = hmac.digest(key, payload, hashlib.sha256)
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (payload, mac))


@pytest.mark.parametrize("quote", [a_quote(), a_quote(dimensions={}, project=None, total_micros=0)])
def test_a_quote_comes_back_as_it_was_given(quote: Quote) -> None:
    token = sign_quote(quote, KEY)

    assert told(read_quote(token, [KEY])) == told(quote)
    assert bytes(read_quote(token, [KEY]).computation) == bytes(quote.computation)


def test_a_token_is_canonical_json_and_its_mac() -> None:
    token = sign_quote(a_quote(), KEY)

    payload_text, _ = token.split(".")
    payload = urlsafe_b64decode(payload_text + "=" * (-len(payload_text) % 4))
    assert payload.startswith(b'{"action":"video.generate","card":{"card_id":"standard"')
    assert (
        payload
        == json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert token == signed(payload)


def test_equal_quotes_have_one_token_however_their_meters_are_ordered() -> None:
    turned = a_quote(meters=dict(reversed(a_quote().meters.items())))

    assert sign_quote(turned, KEY) == sign_quote(a_quote(), KEY)


def test_a_quote_signed_with_the_older_key_is_ours_until_that_key_is_gone() -> None:
    token = sign_quote(a_quote(), OLDER_KEY)

    assert read_quote(token, [KEY, OLDER_KEY]).quote_id == "quote-1"
    for keys in ([KEY], [KEY, OTHER_KEY], []):
        with pytest.raises(QuoteNotOurs, match="not signed by this ledger"):
            read_quote(token, keys)


@pytest.mark.parametrize(
    "change",
    [
        {"total_micros": 1},
        {"team_id": "umbrella"},
        {"expires_at": NOW + timedelta(days=900)},
        {"card": CardPin("standard", 2, "ab" * 32)},
    ],
)
def test_what_a_quote_says_cannot_be_changed(change: dict[str, object]) -> None:
    _, mac = sign_quote(a_quote(), KEY).split(".")
    payload, _ = sign_quote(a_quote(**change), OTHER_KEY).split(".")

    with pytest.raises(QuoteNotOurs, match="was changed since"):
        read_quote(f"{payload}.{mac}", [KEY])


@given(at=st.integers(0, 10_000), character=st.sampled_from("AZaz09-_.=+/ \né\x00"))
def test_no_single_character_of_a_token_can_be_changed(at: int, character: str) -> None:
    token = sign_quote(a_quote(), KEY)
    at %= len(token)
    changed = token[:at] + character + token[at + 1 :]

    if changed != token:
        with pytest.raises(QuoteNotOurs):
            read_quote(changed, [KEY])


@given(text=st.text(max_size=200))
def test_any_text_is_refused_and_never_crashes(text: str) -> None:
    with pytest.raises(QuoteNotOurs) as refused:
        read_quote(text, [KEY])

    assert refused.value.asked == {"field": "quote"}


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "not signed"),
        (".", "not signed"),
        ("a", "not base64url"),
        ("e30", "not signed"),
        (sign_quote(a_quote(), KEY) + ".", "not base64url"),
        (sign_quote(a_quote(), KEY) + "=", "not base64url"),
        (" " + sign_quote(a_quote(), KEY), "not base64url"),
        (sign_quote(a_quote(), KEY).partition(".")[0], "not signed"),
        ("A" * (TOKEN_CHARACTERS_MAX + 1), "more than any of ours"),
        (signed(b"{}"), "a shape that is not known"),
        (signed(b"[]"), "a shape that is not known"),
        (signed(b"\xff"), "a shape that is not known"),
        (signed(b""), "a shape that is not known"),
    ],
)
def test_what_is_no_token_of_ours_is_refused(token: str, why: str) -> None:
    with pytest.raises(QuoteNotOurs, match=why):
        read_quote(token, [KEY])


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"total_micros": -1},
        {"total_micros": 1.5},
        {"expires_at": "2026-06-01T12:00:00"},
        {"meters": {"seconds": 8}},
    ],
)
def test_a_signed_payload_of_another_shape_is_not_guessed(change: dict[str, object]) -> None:
    payload = msgspec.json.decode(msgspec.json.encode(a_quote())) | change

    with pytest.raises(QuoteNotOurs, match="a shape that is not known"):
        read_quote(signed(msgspec.json.encode(payload)), [KEY])


def test_a_token_too_long_to_carry_is_never_given() -> None:
    many = {f"dimension_{number}": "x" * 100 for number in range(60)}

    with pytest.raises(Malformed, match="at most 8192 are carried"):
        sign_quote(a_quote(dimensions=many), KEY)


def test_a_refusal_is_the_ledgers_own_kind() -> None:
    assert issubclass(QuoteNotOurs, LedgerError)
    assert QuoteNotOurs.code == "quote_not_ours"
