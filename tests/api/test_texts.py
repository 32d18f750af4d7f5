"""Who may read what was written along a work: whoever goes on with it, and of the others each their own."""

from __future__ import annotations

from typing import Any

import pytest

from api.roles import ROLES
from tests.api.conftest import Caller, give_key, give_member_key
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
WHOLE = ["a poster of a fox", "vera tried this", "mira tried that", "poster.png"]


@pytest.fixture
def readers(acme: Caller, ledger: MemoryLedger) -> dict[str, Caller]:
    """Somebody of every role; a work with brief, a step of vera's and one of mira's, and result; vera only looks by now."""
    names = {"viewer": "vera", "member": "mira", "admin": "adam", "owner": "olga"}
    people: dict[str, Caller] = {"owner": Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))}
    for role in ("viewer", "member", "admin"):
        key = give_member_key(ledger, "acme", names[role], "admin" if role == "admin" else "member")
        people[role] = Caller(acme.http, key)
    brief = {"work_id": "poster", "goal": WHOLE[0], "audience": "visitors"}
    did = [
        people["admin"].post(f"{TEAM}/works", brief),
        people["viewer"].post(f"{TEAM}/works/poster/steps", {"step": "draft", "prompts": [WHOLE[1]]}),
        people["member"].post(f"{TEAM}/works/poster/steps", {"step": "draft", "prompts": [WHOLE[2]]}),
        people["admin"].post(f"{TEAM}/works/poster/result", {"files": [WHOLE[3]]}),
        people["owner"].post(f"{TEAM}/members/vera/role", {"role": "viewer"}),
    ]
    assert [answer.status_code for answer in did] == [201] * 5, [answer.text for answer in did]
    services = {role: Caller(acme.http, give_key(ledger, role)) for role in ROLES if role not in people}
    return people | services


def read(reader: Caller) -> tuple[list[str], int]:
    """Which texts of the work the reader is told, and how many more there are."""
    answer = reader.get(f"{TEAM}/works/poster")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return [text for text in WHOLE if text in answer.text], told["texts_not_told"]


@pytest.mark.parametrize("role", ["member", "admin", "owner", "support", "auditor", "break-glass"])
def test_whoever_goes_on_with_a_work_or_reads_all_usage_reads_it_whole(
    readers: dict[str, Caller], role: str
) -> None:
    assert read(readers[role]) == (WHOLE, 0)


def test_a_viewer_reads_brief_and_result_and_of_the_steps_their_own(readers: dict[str, Caller]) -> None:
    assert read(readers["viewer"]) == ([WHOLE[0], WHOLE[1], WHOLE[3]], 1)


def test_an_operator_reads_no_text_and_ingest_no_work(readers: dict[str, Caller]) -> None:
    assert read(readers["operator"]) == ([], 4)
    assert readers["ingest"].get(f"{TEAM}/works/poster").json()["code"] == "not_allowed"


def test_a_member_writes_in_its_own_name_and_whoever_manages_the_team_in_anybodys(
    readers: dict[str, Caller],
) -> None:
    """A16, I26: what is erased, and shown as somebody's own, goes by that name."""
    step = {"step": "again", "prompts": ["in vera's name"], "member": "vera"}
    brief = {"work_id": "second", "goal": "x", "audience": "y"}
    wrote = [
        readers["member"].post(f"{TEAM}/works", brief | {"member": "vera"}),
        readers["member"].post(f"{TEAM}/works", brief | {"member": "mira"}),
        readers["member"].post(f"{TEAM}/works/second/steps", step),
        readers["admin"].post(f"{TEAM}/works/second/steps", step),
        readers["member"].post(f"{TEAM}/works/second/result", {"files": ["x.png"], "member": "vera"}),
        readers["member"].post(f"{TEAM}/works/second/result", {"files": ["x.png"]}),
    ]

    assert [answer.status_code for answer in wrote] == [403, 201, 403, 201, 403, 201]
    assert wrote[2].json()["code"] == "not_allowed"


def test_texts_of_all_are_searched_by_those_who_manage_the_team_and_by_none_below(
    readers: dict[str, Caller],
) -> None:
    found = {role: by.get(f"{TEAM}/contexts", q="tried").status_code for role, by in readers.items()}

    assert {role for role, status in found.items() if status == 200} == {
        "admin",
        "owner",
        "support",
        "auditor",
        "break-glass",
    }
