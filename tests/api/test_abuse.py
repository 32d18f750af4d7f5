"""What somebody with bad intentions tries, by its code in the catalogue of scenarios."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from api.roles import QUESTIONS
from domain.usage import usage_key
from tests.api.asking import BODIES, PARAMS, PATH
from tests.api.conftest import Caller, give_key, give_member_key
from tests.api.test_roles import ROUTES
from tests.builders import SOURCE, a_usage_record
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
LISTS = ("statement", "history", "replay", "invoices", "accesses")


def everything(ledger: MemoryLedger, team_id: str = "globex") -> bytes:
    """All that was ever recorded of a team."""
    team = ledger.teams[team_id]
    return b"".join([each.hash for each in team.events] + [each.hash for each in team.paperwork_events])


# --- A4 ---


def test_one_key_of_two_members_and_of_one_member_in_two_teams_does_not_meet_a4(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """A4, I16: each is told what it did itself, and never what the other was told."""
    assert acme.post("/v1/accounts", {"team_id": "globex"}).status_code == 201
    olga, otto, olga_there = (
        Caller(acme.http, give_member_key(ledger, team, member, "owner"))
        for team, member in (("acme", "olga"), ("acme", "otto"), ("globex", "olga"))
    )

    def limited(by: Caller, team: str, limit_id: str) -> Any:
        return by.post(
            f"/v1/accounts/{team}/limits", {"limit_id": limit_id, "window": "day", "cap": "5"}, key="k"
        )

    told = [limited(olga, "acme", "a"), limited(otto, "acme", "b"), limited(olga_there, "globex", "c")]
    again = [limited(olga, "acme", "a"), limited(otto, "acme", "b"), limited(olga_there, "globex", "c")]

    assert [each.status_code for each in told + again] == [201] * 6
    assert [each.json()["limit_id"] for each in told] == ["a", "b", "c"]
    assert [each.content for each in again] == [each.content for each in told]
    assert limited(otto, "acme", "a").json()["code"] == "idempotency_key_reused"


# --- A5 ---


class Asked(Protocol):
    """What a test counts of the ledger in memory."""

    def __call__(self, *given: Any, **named: Any) -> Any: ...


def _counted(asked: list[str], name: str, method: Asked) -> Asked:
    def counting(*given: Any, **named: Any) -> Any:
        asked.append(name)
        return method(*given, **named)

    return counting


@pytest.mark.parametrize("route", ["balance", "statement", "members", "works/poster", "charges/" + "0" * 32])
def test_another_team_costs_as_many_lookups_as_one_that_is_not_there_a5(
    acme: Caller, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """A5: the door asks for the credential and for nothing of the team, so how long it takes tells nothing either."""
    for team in ("globex", "closed"):
        acme.post("/v1/accounts", {"team_id": team})
    assert acme.post("/v1/accounts/closed/close", {"reason": "the end"}).status_code == 201
    olga = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    asked: list[str] = []
    for name in ("key", "team", "account", "events", "session"):
        monkeypatch.setattr(ledger, name, _counted(asked, name, getattr(ledger, name)))

    lookups, told = [], set()
    for team in ("globex", "closed", "nobody"):
        asked.clear()
        answer = olga.get(f"/v1/accounts/{team}/{route}")
        lookups.append(list(asked))
        told.add(answer.text.replace(team, "").replace(answer.headers["x-request-id"], ""))

    assert lookups[0] == lookups[1] == lookups[2]
    assert set(lookups[0]) <= {"key", "team"}
    assert len(told) == 1
    assert "unknown_team" in told.pop()


THEIRS = {
    "charge_id": usage_key("globex", SOURCE, "r1"),
    "lot_id": "lot-9",
    "limit_id": "theirs",
    "member": "gus",
    "payment_reference": "pay-theirs",
    "work_id": "their-work",
}
NOBODYS = {
    "charge_id": "f" * 32,
    "lot_id": "lot-777",
    "hold_id": "hold-777",
    "dispute_id": "dispute-777",
    "adjustment_id": "adjustment-777",
    "act_id": "act-777",
    "key_id": "z" * 12,
    "plan_id": "plan-777",
    "limit_id": "nobodys",
    "member": "nobody",
    "payment_reference": "pay-nobodys",
    "work_id": "no-work",
}
OF_OBJECTS = [
    name
    for name, route in ROUTES.items()
    if "{team_id}" in route.path_format and any(f"{{{each}}}" in route.path_format for each in NOBODYS)
]


@pytest.fixture
def theirs(acme: Caller, ledger: MemoryLedger) -> dict[str, str]:
    """What team globex has, by the name that a path gives it; none of it is acme's."""
    there = "/v1/accounts/globex"
    acme.post("/v1/accounts", {"team_id": "globex"})
    for _ in range(9):
        acme.post(f"{there}/grants", {"amount": "50", "reason": "x"})
    ledger.use(a_usage_record("r1", 1, occurred="2026-11-01 12:00", team="globex"))

    def did(path: str, body: dict[str, Any], field: str, by: Caller = acme) -> str:
        answer = by.post(f"{there}/{path}", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()[field])

    did("limits", {"limit_id": "theirs", "window": "day", "cap": "500"}, "limit_id")
    did("top-ups", BODIES["top_up_credits"] | {"payment_reference": "pay-theirs"}, "version")
    did("works", BODIES["start_work"] | {"work_id": "their-work"}, "work_id")
    give_member_key(ledger, "globex", "gus", "owner")
    contested = {"charge_ids": [THEIRS["charge_id"]], "evidence": "x"}
    other = Caller(acme.http, give_key(ledger, "operator", "another person"))
    large = {"direction": "raise", "amount": "2000", "reason": "x"}
    return THEIRS | {
        "hold_id": did("holds", {"action": "image.generate", "amount": "5"}, "hold_id"),
        "dispute_id": did("disputes", contested, "dispute_id"),
        "adjustment_id": did("adjustments", large, "adjustment_id", other),
        "act_id": did("grants", {"amount": "7", "reason": "x"}, "act_id", other),
        "key_id": next(iter(ledger.teams["globex"].paperwork.keys)),
        "plan_id": did("spending-plans", BODIES["save_spending_plan"], "plan_id"),
    }


@pytest.mark.parametrize("operation", OF_OBJECTS)
def test_what_is_another_teams_is_answered_as_what_nobody_has_a5(
    operation: str, acme: Caller, ledger: MemoryLedger, theirs: dict[str, str]
) -> None:
    """A5, I16: by its id under one's own team; word for word, but for the name that was sent."""
    route = ROUTES[operation]
    untouched = everything(ledger)
    answers: list[Any] = []
    for named in (theirs, NOBODYS):
        path = route.path_format.format(**PATH | NOBODYS | named | {"team_id": "acme"})
        answers.append(
            acme.http.request(
                sorted(route.methods or [])[0],
                path,
                json=BODIES.get(operation),
                params=PARAMS.get(operation),
                headers={**acme.headers, "Idempotency-Key": f"k{len(answers)}"},
            )
        )

    told = [
        answer.text.replace(answer.headers["x-request-id"], "")
        for answer in answers
        if answer.status_code >= 400
    ]
    for name, theirs_is in theirs.items():
        told = [text.replace(theirs_is, "X").replace(NOBODYS[name], "X") for text in told]
    assert answers[0].status_code == answers[1].status_code, [answer.text for answer in answers]
    assert told[:1] == told[1:], operation
    assert everything(ledger) == untouched


# --- A7 ---


@pytest.mark.parametrize("operation", sorted(QUESTIONS))
def test_a_question_takes_no_field_that_it_does_not_know_a7(acme: Caller, operation: str) -> None:
    """A7: as commands do not."""
    path = ROUTES[operation].path_format.format(**PATH)

    known, unknown = (
        acme.http.post(path, json=BODIES[operation] | more, headers=acme.headers)
        for more in ({}, {"settled_micros": 5})
    )

    assert (known.status_code, unknown.status_code) == (200, 422), known.text
    assert unknown.json()["errors"][0]["field"] == "settled_micros"


# --- A8 ---


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["1000000000", "0", "-1", "1e3", "9" * 400])
def test_a_page_is_never_larger_than_the_bound_a8(acme: Caller, path: str, limit: str) -> None:
    """A8, I24."""
    assert acme.get(f"{TEAM}/{path}", limit=limit).status_code == 422


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("name", ["offset", "page", "skip", "cursor"])
def test_there_is_no_way_in_by_counting_rows_a8(acme: Caller, path: str, name: str) -> None:
    """A8: pages go by key, so the millionth costs what the first does."""
    answer = acme.get(f"{TEAM}/{path}", **{name: "1000000"})

    assert (answer.status_code, answer.json()["field"]) == (422, name)


def test_a_cursor_is_of_its_list_and_team_and_of_nobody_elses_making_a8(acme: Caller) -> None:
    """A8."""
    acme.post("/v1/accounts", {"team_id": "globex"})
    for _ in range(3):
        acme.post(f"{TEAM}/grants", {"amount": "1", "reason": "x"})
    cursor = acme.get(f"{TEAM}/statement", limit=1).json()["next"]
    tampered = [cursor[:-1] + ("A" if cursor[-1] != "A" else "B"), cursor[1:], "x" * 40, "0", cursor + cursor]

    theirs = acme.get("/v1/accounts/globex/statement", after=cursor)
    other_list = acme.get(f"{TEAM}/history", after=cursor)
    other_filter = acme.get(f"{TEAM}/statement", after=cursor, action="image.generate")

    assert acme.get(f"{TEAM}/statement", limit=1, after=cursor).status_code == 200
    for answer in (
        theirs,
        other_list,
        other_filter,
        *(acme.get(f"{TEAM}/statement", after=each) for each in tampered),
    ):
        assert (answer.status_code, answer.json()["code"]) in {(400, "cursor_refused"), (422, "malformed")}


def test_thousands_of_filters_are_refused_before_they_are_read_a8(acme: Caller) -> None:
    """A8."""
    answer = acme.http.get(f"{TEAM}/statement?" + "&".join(["action=a"] * 6_000), headers=acme.headers)

    assert answer.status_code == 431


# --- two worlds ---


def test_what_a_team_is_told_is_the_same_whether_or_not_another_is_there_i16(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """I16: the same questions with and without globex in the ledger, asked with the same key."""
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    paths = (
        "balance",
        "lots",
        "holds",
        "limits",
        "members",
        "keys",
        "statement",
        "history",
        "invoices",
        "acts",
    )

    def told() -> list[Any]:
        answers = [owner.get(f"{TEAM}/{path}").json() for path in paths]
        return [{name: each[name] for name in each if name not in {"position", "next"}} for each in answers]

    before = told()
    acme.post("/v1/accounts", {"team_id": "globex"})
    acme.post("/v1/accounts/globex/grants", {"amount": "7", "reason": "x"})
    give_member_key(ledger, "globex", "olga", "owner")

    assert told() == before
