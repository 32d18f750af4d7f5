"""What guessing at keys comes to: arithmetic refuses, comparison takes constant time, all guesses are alike (A15)."""

from __future__ import annotations

import ast
import asyncio
import hmac
import re
import statistics
import time
from pathlib import Path

import pytest

from api.keys import KeyRing, key_text, new_key, parse_key
from tests.api.conftest import PEPPER, give_key
from tests.memory_store import MemoryLedger

ROOT = Path(__file__).resolve().parents[2]
SECRETS = re.compile(r"secret|mac\b|_mac|pepper|signature|seal")
HELD_AGAINST_SECRETS = ("api/keys.py", "api/cursors.py", "domain/quotes.py", "infra/postgres/sealing.py")


@pytest.mark.parametrize("file", HELD_AGAINST_SECRETS)
def test_no_secret_is_compared_but_in_constant_time_a15(file: str) -> None:
    """A15: neither ``==`` nor ``in`` has a secret on a side, in any file that has one to compare."""
    tree = ast.parse((ROOT / file).read_text())
    plain = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn)
        and SECRETS.search(ast.unparse(node))
    ]

    assert plain == []
    assert "compare_digest(" in (ROOT / file).read_text()


@pytest.mark.parametrize("file", sorted(path.name for path in (ROOT / "api").glob("*.py")))
def test_secrets_are_compared_nowhere_else_in_this_room_a15(file: str) -> None:
    """A15: a new way in is seen here, and added to the list above."""
    text = (ROOT / "api" / file).read_text()

    assert ("compare_digest" in text or "hmac.digest" in text) == (f"api/{file}" in HELD_AGAINST_SECRETS)


@pytest.mark.parametrize(
    "kind", ["good", "unknown id", "wrong secret", "another key's secret", "expired", "revoked"]
)
def test_a_well_formed_key_is_held_against_a_digest_once_whatever_is_wrong_with_it_a15(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A15: the same work for each of them, on all 32 bytes."""
    good = parse_key(give_key(ledger, "operator"))
    other = parse_key(give_key(ledger, "auditor"))
    expired = parse_key(give_key(ledger, "operator", expires_at=ledger.now))
    revoked = parse_key(give_key(ledger, "operator", revoked_at=ledger.now))
    assert good is not None
    assert other is not None
    assert expired is not None
    assert revoked is not None
    sent = {
        "good": good,
        "unknown id": new_key(),
        "wrong secret": good._replace(secret=new_key().secret),
        "another key's secret": good._replace(secret=other.secret),
        "expired": expired,
        "revoked": revoked,
    }[kind]
    compared: list[tuple[int, int]] = []
    told = hmac.compare_digest

    def watched(one: bytes, another: bytes) -> bool:
        compared.append((len(one), len(another)))
        return told(one, another)

    monkeypatch.setattr("api.keys.hmac.compare_digest", watched)
    ring = KeyRing(ledger, PEPPER, now=lambda: ledger.now)
    principal = asyncio.run(ring.principal(key_text(sent)))

    assert (principal is not None) == (kind == "good")
    assert compared == [(32, 32)]


def test_how_long_a_guess_takes_does_not_tell_how_near_it_came_a15(ledger: MemoryLedger) -> None:
    """A15: medians of three kinds of guesses, taken in turn; a leak byte by byte or by id would be many times this bound."""
    good = parse_key(give_key(ledger, "operator"))
    assert good is not None
    near = good.secret[:-1] + ("0" if good.secret[-1] != "0" else "1")
    guesses = {
        "an id that nobody has": key_text(new_key()),
        "a secret that is wholly wrong": key_text(good._replace(secret=new_key().secret)),
        "a secret that is wrong at its end": key_text(good._replace(secret=near)),
    }
    ring = KeyRing(ledger, PEPPER, now=lambda: ledger.now)
    took: dict[str, list[int]] = {name: [] for name in guesses}

    async def probe() -> None:
        for _ in range(2_000):
            for name, text in guesses.items():
                began = time.perf_counter_ns()
                assert await ring.principal(text) is None
                took[name].append(time.perf_counter_ns() - began)

    asyncio.run(probe())

    medians = {name: statistics.median(each) for name, each in took.items()}
    assert max(medians.values()) < 2 * min(medians.values()), medians


def test_a_hundred_thousand_guesses_are_refused_by_arithmetic_alone_a15(ledger: MemoryLedger) -> None:
    """A15: six digits of checksum refuse all but one guess in four thousand million, in microseconds and without a lookup."""
    good = give_key(ledger, "operator")
    began = time.perf_counter()

    passed = sum(parse_key(f"{good[:-8]}{number:08d}") is not None for number in range(100_000))

    assert passed <= 1
    assert time.perf_counter() - began < 30
