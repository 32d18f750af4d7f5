"""Whatever anybody does with roles and keys: nobody rises above who raised them, and a team has an owner for ever (A16)."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from api.roles import TEAM_ROLES
from domain.commands import AddMember, ChangeMemberRole, CreateKey, OpenAccount, RemoveMember
from domain.errors import LedgerError
from domain.ledger import Caller as LedgerCaller
from domain.ledger import Ledger
from tests.api.conftest import Caller, give_key, give_member_key
from tests.asgi import Http
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
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


WHO = ("olga", "adam", "mira", "vera", "sam", "ann", "bob", "aud", "ing")
SERVICES = {"sam": "support", "ann": "operator", "bob": "operator", "aud": "auditor", "ing": "ingest"}
HTTP_ACTS = st.tuples(
    st.sampled_from(["add", "change", "remove", "key", "revoke", "approve"]),
    st.sampled_from(WHO),
    st.sampled_from(PEOPLE),
    st.sampled_from(TEAM_ROLES),
)


def _asked_for(act: Act, ledger: MemoryLedger) -> tuple[str, dict[str, Any]]:
    """Path and body of what somebody does; the newest key and the newest act are taken where one is to be named."""
    kind, _, whom, role = act
    team = ledger.teams["acme"].paperwork
    keys = [key_id for key_id, key in team.keys.items() if key.member == whom] or ["0" * 12]
    paths: dict[str, tuple[str, dict[str, Any]]] = {
        "add": ("members", {"member": whom, "role": role, "reason": "x"}),
        "change": (f"members/{whom}/role", {"role": role, "reason": "x"}),
        "remove": (f"members/{whom}/removal", {"reason": "x"}),
        "key": ("keys", {"member": whom}),
        "revoke": (f"keys/{keys[-1]}/revocation", {"reason": "x"}),
        "approve": (f"acts/{next(reversed(team.acts), 'act-0')}/approval", {}),
    }
    return paths[kind]


@settings(max_examples=40, deadline=None)
@given(acts=st.lists(HTTP_ACTS, max_size=25))
def test_whatever_anybody_asks_for_no_role_is_given_or_taken_by_who_may_not_a16(
    stage: tuple[MemoryLedger, Http], acts: list[Any]
) -> None:
    """A16, I26: over HTTP with the keys of people, of support, of two operators, of an auditor and of a pipeline."""
    ledger, http = stage
    ledger.clear()
    founder = Caller(http, give_key(ledger, "break-glass"))
    assert founder.post("/v1/accounts", {"team_id": "acme"}).status_code == 201
    callers = {
        name: Caller(http, give_member_key(ledger, "acme", name, role))
        for name, role in zip(PEOPLE, reversed(TEAM_ROLES), strict=False)
    }
    for name, service in SERVICES.items():
        listed = ["acme"] if service == "ingest" else None
        callers[name] = Caller(http, give_key(ledger, service, name, teams=listed))
    for act in acts:
        before = ledger.teams["acme"].paperwork
        members, keys, waiting = dict(before.members), dict(before.keys), dict(before.acts)
        path, body = _asked_for(act, ledger)

        answer = callers[act[1]].post(f"{TEAM}/{path}", body)

        after = ledger.teams["acme"].paperwork
        assert answer.status_code < 500, answer.text
        assert after.owners()
        changed = {
            name: max(
                TEAM_ROLES.index(each.role) for each in (members.get(name), after.members.get(name)) if each
            )
            for name in set(members) | set(after.members)
            if members.get(name) != after.members.get(name)
        }
        by, role = act[1], SERVICES.get(act[1])
        if changed and role is None:
            mine = TEAM_ROLES.index(members[by].role)
            assert members[by].role == "owner" or max(changed.values()) < mine, (act, changed)
            assert mine >= TEAM_ROLES.index("admin")
        elif changed:
            # Only two operators together: one proposed, another approved.
            [done] = set(waiting) - set(after.acts)
            assert (role, act[0]) == ("operator", "approve")
            assert waiting[done].proposed_by.id not in {by, None}
        assert role is None or not set(after.keys) - set(keys), "no service makes keys"
        assert {key.member for key in after.keys.values()} <= set(after.members)
