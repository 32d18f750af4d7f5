"""Texts that databases, shells, templates, logs and terminals could stumble over, in every place that a caller can fill (A11)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from api.guard import query_names
from tests.api.asking import BODIES, PARAMS, PATH
from tests.api.conftest import Caller
from tests.api.test_roles import ROUTES
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
IN_A_LINE = ["'; DROP TABLE ledger_events; -- ${7*7}{{7*7}}%s%n", "../../etc/passwd"]
HOSTILE = [*IN_A_LINE, "a\r\nX-Injected: yes\x1b[31m\u202egnp\x00", "\ud800", "x" * 9_000]


def places_of(body: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts stand in a body, however deep."""
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for name, value in inside:
        if isinstance(value, str):
            yield (*before, name)
        else:
            yield from places_of(value, (*before, name))


def with_text(body: Any, place: tuple[Any, ...], text: str) -> Any:
    """The body with another text in that place, or under that name as a key."""
    changed = json.loads(json.dumps(body))
    inside = changed
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = text
    return changed


@pytest.mark.parametrize("operation", sorted(BODIES))
def test_hostile_text_in_every_place_of_every_body_is_data_or_refused_a11(
    acme: Caller, operation: str
) -> None:
    """A11: also deep in lists and maps, and as the name of a member."""
    if operation in {"open_account", "close_account"}:
        return
    route = ROUTES[operation]
    sent = {**acme.headers, "Content-Type": "application/json"}
    path = route.path_format.format(**PATH)
    bodies = [
        body
        for text in HOSTILE
        for body in (
            *(with_text(BODIES[operation], place, text) for place in places_of(BODIES[operation])),
            BODIES[operation] | {text: "x"},
            BODIES[operation] | {"meters": {text: "1"}, "dimensions": {text: text}},
        )
    ]
    for number, body in enumerate(bodies):
        answer = acme.http.request(
            sorted(route.methods or [])[0],
            path,
            content=json.dumps(body).encode(),
            headers={**sent, "Idempotency-Key": f"k{number}"},
        )
        assert answer.status_code < 500, (body, answer.text)
        assert "x-injected" not in answer.headers
        assert not {"\x1b", "\u202e", "\r", "\x00"} & set(answer.text)


@pytest.mark.parametrize("operation", [name for name, route in ROUTES.items() if route.methods == {"GET"}])
def test_hostile_text_in_every_parameter_path_and_header_is_data_or_refused_a11(
    acme: Caller, operation: str
) -> None:
    """A11."""
    route = ROUTES[operation]
    if operation == "stream_balance":
        return
    path = route.path_format.format(**PATH)
    names = [*query_names(route.dependant), "unknown"]
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
    for text in IN_A_LINE:
        asked += [(path, PARAMS.get(operation, {}) | {name: text}, {}) for name in names]
        asked += [
            (route.path_format.format(**PATH | {name: quote(text, safe="")}), {}, {})
            for name in PATH
            if f"{{{name}}}" in route.path_format
        ]
        asked += [
            (path, {}, {name: text})
            for name in ("X-Request-ID", "If-None-Match", "traceparent", "Last-Event-ID", "Cookie", "Accept")
        ]
    for where, params, headers in asked:
        answer = acme.http.get(where, params=params, headers={**acme.headers, **headers})
        assert answer.status_code < 500 or operation == "readyz", (where, params, headers, answer.text)
        assert "x-injected" not in answer.headers


@pytest.mark.parametrize("team", ["a%00b", "%0a", "..%2f", "a" * 129, "%F0%9F%92%A9"])
def test_what_can_be_no_teams_name_reaches_no_query_either_a11(
    acme: Caller, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, team: str
) -> None:
    """A11: the door leaves its trace, and asks for a member's role, before the route looks at the name."""
    asked: list[str] = []
    told = ledger.session

    def watched(team_id: str, *, wait: bool = True) -> Any:
        asked.append(team_id)
        return told(team_id, wait=wait)

    monkeypatch.setattr(ledger, "session", watched)

    answer = acme.get(f"/v1/accounts/{team}/balance")

    assert answer.status_code in {404, 422}
    assert asked == []


def test_a_search_for_what_no_text_can_hold_is_refused_a11(acme: Caller) -> None:
    """A11: NUL reaches no query."""
    answer = acme.get(f"{TEAM}/contexts", q="fox\x00")

    assert (answer.status_code, answer.json()["field"]) == (422, "q")
