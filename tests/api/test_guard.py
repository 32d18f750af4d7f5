"""Who may do what: every route against every role, and keys that open nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api import roles
from api.app import routed
from api.guard import GuardedRoute
from api.keys import KeyRing, key_text, new_key, parse_key
from domain.errors import Busy
from tests.api.conftest import PEPPER, Caller, behind, give_key, give_member_key
from tests.asgi import Http
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"


def routes() -> list[APIRoute]:
    """Every route there is, whatever router it came with."""
    app = routed(behind(MemoryLedger()))
    found: list[APIRoute] = []
    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        below = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", None
        )
        waiting += list(below or [])
    return found


def test_every_route_is_guarded_and_has_its_line_in_the_table_and_no_line_is_left_over() -> None:
    """A6: a route without a cell would be nobody's, and fails here."""
    found = routes()

    assert len(found) >= 60
    assert all(isinstance(route, GuardedRoute) for route in found)
    assert {route.name for route in found} == roles.OPERATIONS
    assert len(roles.OPERATIONS) == len(roles.OPEN) + sum(len(line.operations) for line in roles.TABLE)


def test_what_the_table_does_not_know_nobody_may() -> None:
    assert not any(roles.may(role, "delete_everything") for role in (*roles.ROLES, roles.ANYONE))


def _takes_key(dependant: Dependant) -> bool:
    """Whether the route asks for an idempotency key."""
    mine = {field.alias.lower() for field in dependant.header_params}
    return "idempotency-key" in mine or any(map(_takes_key, dependant.dependencies))


def test_whatever_a_team_is_asked_by_post_without_a_key_is_a_question() -> None:
    """So it leaves the trace of a read; a command leaves its own event."""
    asked = {
        route.name
        for route in routes()
        if route.methods == {"POST"} and "{team_id}" in route.path_format and not _takes_key(route.dependant)
    }

    assert asked == roles.QUESTIONS


@pytest.mark.parametrize(
    ("role", "is_seen"),
    [("support", True), ("operator", True), ("break-glass", True), ("auditor", False)],
)
def test_a_team_sees_who_of_the_house_read_it_and_an_auditor_writes_nowhere(
    acme: Caller, ledger: MemoryLedger, role: str, is_seen: bool
) -> None:
    """I26: whether it was asked by GET or by POST; once an hour."""
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    reader = Caller(acme.http, give_key(ledger, role, "somebody"))
    written = len(ledger.teams["acme"].paperwork_events)
    answers = [
        answer
        for _ in range(3)
        for answer in (
            reader.get(f"{TEAM}/balance"),
            reader.post(f"{TEAM}/estimates", {"action": "image.generate", "meters": {"units": "1"}}),
            owner.get(f"{TEAM}/balance"),
        )
    ]

    told = owner.get(f"{TEAM}/accesses").json()["data"]

    assert {answer.status_code for answer in answers} == {200}
    traces = [(each["principal"], each["role"], each["operation"]) for each in told]
    seen = [("somebody", role, "estimate_usage"), ("somebody", role, "read_balance")]
    assert traces == (seen if is_seen else [])
    assert len(ledger.teams["acme"].paperwork_events) == written + len(traces)


def test_a_command_is_its_own_trace(acme: Caller, ledger: MemoryLedger) -> None:
    acme.post(f"{TEAM}/grants", {"amount": "1", "reason": "x"})

    assert ledger.teams["acme"].paperwork_events == []


def test_nothing_is_told_as_long_as_the_trace_cannot_be_left(
    acme: Caller, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_team_id: str) -> None:
        raise Busy("somebody else writes")

    monkeypatch.setattr(ledger, "session", locked)
    answer = acme.get(f"{TEAM}/balance")

    assert (answer.status_code, answer.json()["code"]) == (503, "busy")


def test_nothing_is_said_about_a_team_before_the_key_was_seen(http: Http) -> None:
    unknown_team = http.get("/v1/accounts/nobody-has-this/balance")
    broken_body = http.post("/v1/accounts", content=b"{", headers={"content-type": "application/json"})

    assert (unknown_team.status_code, broken_body.status_code) == (401, 401)
    assert unknown_team.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer cof_live_short_x",
        "Bearer " + "x" * 8_000,
        "Bearer ü",
    ],
)
def test_a_malformed_credential_is_refused(http: Http, authorization: str) -> None:
    answer = http.get("/v1/rate-cards", headers={b"Authorization": authorization.encode()})

    assert answer.status_code == 401
    assert "cof_live_short" not in answer.text


def test_a_key_expires_and_a_key_is_revoked(http: Http, ledger: MemoryLedger) -> None:
    short = Caller(http, give_key(ledger, "auditor", expires_at=ledger.now + timedelta(minutes=1)))
    revoked = Caller(http, give_key(ledger, "auditor", revoked_at=ledger.now))

    before = short.get("/v1/rate-cards").status_code
    ledger.now += timedelta(minutes=1)
    after = short.get("/v1/rate-cards").status_code

    assert (before, after, revoked.get("/v1/rate-cards").status_code) == (200, 401, 401)


async def _principals(ring: KeyRing, *texts: str) -> list[Any]:
    return [await ring.principal(text) for text in texts]


def test_a_right_id_with_another_secret_opens_nothing(ledger: MemoryLedger) -> None:
    import asyncio

    good = give_key(ledger, "operator")
    parts = parse_key(good)
    assert parts is not None
    forged = key_text(parts._replace(secret=new_key().secret))
    mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")

    told = asyncio.run(_principals(KeyRing(ledger, PEPPER), good, forged, mistyped))
    other_pepper = asyncio.run(_principals(KeyRing(ledger, b"another pepper" * 3), good))

    assert [each is not None for each in told] == [True, False, False]
    assert other_pepper == [None]


def test_a_revocation_is_effective_within_five_seconds(ledger: MemoryLedger) -> None:
    import asyncio

    import msgspec

    elapsed = 0.0
    ring = KeyRing(ledger, PEPPER, now=lambda: ledger.now, elapsed=lambda: elapsed)
    good = give_key(ledger, "operator")
    (before,) = asyncio.run(_principals(ring, good))

    (key_id,) = ledger.keys
    ledger.keys[key_id] = msgspec.structs.replace(ledger.keys[key_id], revoked_at=ledger.now)
    elapsed = 4.9
    (after,) = asyncio.run(_principals(ring, good))

    assert before is not None
    assert after is None


def test_a_key_has_256_bits_and_its_stored_form_does_not_tell_them(ledger: MemoryLedger) -> None:
    text = give_key(ledger, "operator")
    parts = parse_key(text)
    (stored,) = ledger.keys.values()

    assert parts is not None
    assert 62**43 > 2**256
    assert len({new_key() for _ in range(200)}) == 200
    assert parts.secret.encode() not in stored.secret_mac
    assert text.startswith(f"cof_live_{parts.key_id}_{parts.secret}")


def test_a_parameter_that_is_a_list_may_be_sent_twice_and_no_other(acme: Caller) -> None:
    both = acme.get("/v1/accounts/acme/spending", by=["day", "member"])
    twice = acme.get("/v1/accounts/acme/spending", by="day", since=["2026-11-01", "2026-11-02"])

    assert both.status_code == 200
    assert (twice.status_code, twice.json()["errors"][0]["field"]) == (422, "since")
