"""What somebody with bad intentions tries, by its code in the catalogue of scenarios."""

from __future__ import annotations

import time
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.keys import parse_key
from api.roles import TEAM_ROLES
from domain.commands import AddMember, ChangeMemberRole, CreateKey, OpenAccount, RemoveMember
from domain.errors import LedgerError
from domain.ledger import Caller as LedgerCaller
from domain.ledger import Ledger
from tests.api.conftest import Caller, give_key, give_member_key
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
LISTS = ("statement", "history", "replay", "invoices", "accesses")


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


def test_a_search_for_what_no_text_can_hold_is_refused_a11(acme: Caller) -> None:
    """A11: NUL reaches no query."""
    answer = acme.get(f"{TEAM}/contexts", q="fox\x00")

    assert (answer.status_code, answer.json()["field"]) == (422, "q")


# --- A15 ---


def test_a_hundred_thousand_guesses_are_refused_by_arithmetic_alone_a15(ledger: MemoryLedger) -> None:
    """A15: six digits of checksum refuse all but one guess in four thousand million, in microseconds and without a lookup."""
    good = give_key(ledger, "operator")
    began = time.perf_counter()

    passed = sum(parse_key(f"{good[:-8]}{number:08d}") is not None for number in range(100_000))

    assert passed <= 1
    assert time.perf_counter() - began < 30


# --- A16 ---

Act = tuple[Literal["add", "change", "remove", "key"], str, str, str]
PEOPLE = ("olga", "adam", "mira", "vera", "eve")
ACTS = st.tuples(
    st.sampled_from(["add", "change", "remove", "key"]),
    st.sampled_from(PEOPLE),
    st.sampled_from(PEOPLE),
    st.sampled_from(TEAM_ROLES),
)


def _done(desk: Ledger, memory: MemoryLedger, number: int, act: Act) -> bool:
    """Whether the team let it happen: somebody, in the role that they have, does it to somebody."""
    kind, by, whom, role = act
    mine = memory.teams["acme"].paperwork.members.get(by)
    if mine is None:
        return False
    commands: dict[str, Any] = {
        "add": AddMember(team_id="acme", member=whom, role=role),  # type: ignore[arg-type]
        "change": ChangeMemberRole(team_id="acme", member=whom, role=role),  # type: ignore[arg-type]
        "remove": RemoveMember(team_id="acme", member=whom),
        "key": CreateKey(team_id="acme", member=whom),
    }
    try:
        desk.execute(commands[kind], LedgerCaller(f"member:{by}", mine.role), f"k{number}")
    except LedgerError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(acts=st.lists(ACTS, max_size=25))
def test_whatever_members_do_to_each_other_nobody_rises_above_who_raised_them_a16(acts: list[Act]) -> None:
    """A16, I26: the team always has an owner, and nobody gave or took more than they had."""
    memory = MemoryLedger()
    desk = Ledger(memory, memory.current)
    founder = LedgerCaller("founder", "operator")
    desk.execute(OpenAccount(team_id="acme"), founder, "open")
    for member, role in zip(PEOPLE, ("owner", "admin", "member", "viewer"), strict=False):
        desk.execute(AddMember(team_id="acme", member=member, role=role), founder, f"join {member}")  # type: ignore[arg-type]
    for number, act in enumerate(acts):
        before = dict(memory.teams["acme"].paperwork.members)
        happened = _done(desk, memory, number, act)

        after = memory.teams["acme"].paperwork
        assert after.owners()
        assert happened or dict(after.members) == before
        if happened:
            rank = TEAM_ROLES.index(before[act[1]].role)
            assert rank >= TEAM_ROLES.index("admin")
            for member in set(before) | set(after.members):
                was, now = before.get(member), after.members.get(member)
                if was != now:
                    touched = [TEAM_ROLES.index(each.role) for each in (was, now) if each is not None]
                    assert before[act[1]].role == "owner" or max(touched) < rank, (act, member)
            for key in after.keys.values():
                assert key.member in after.members


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
