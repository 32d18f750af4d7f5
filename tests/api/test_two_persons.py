"""What takes two persons, what support may give alone, how far roles go, and the trace that a look at a team leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.api.conftest import Caller, give_key, give_member_key
from tests.api.test_keys import code
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"


@pytest.fixture
def support(acme: Caller, ledger: MemoryLedger) -> Caller:
    """Somebody of support."""
    return Caller(acme.http, give_key(ledger, "support", "sam"))


@pytest.fixture
def alone(acme: Caller, ledger: MemoryLedger) -> Caller:
    """An operator."""
    return Caller(acme.http, give_key(ledger, "operator", "ann"))


@pytest.fixture
def second(acme: Caller, ledger: MemoryLedger) -> Caller:
    """Another operator."""
    return Caller(acme.http, give_key(ledger, "operator", "bob"))


def grant(caller: Caller, amount: str, **more: Any) -> Any:
    """The answer to a grant."""
    return caller.post(f"{TEAM}/grants", {"amount": amount, "reason": "a lost week", **more})


def approve(caller: Caller, act_id: str) -> Any:
    """The answer to an approval."""
    return caller.post(f"{TEAM}/acts/{act_id}/approval", {})


def test_support_grants_up_to_its_cap_alone_and_above_it_with_an_operator(
    support: Caller, second: Caller, ledger: MemoryLedger
) -> None:
    small = grant(support, "100").json()
    large = grant(support, "100.000001").json()
    [waits] = support.get(f"{TEAM}/acts").json()["data"]
    by_itself = approve(support, large["act_id"])
    done = approve(second, large["act_id"]).json()

    assert (small["outcome"], small["settled"]) == (None, "200")
    assert (large["outcome"], large["settled"], large["lot_id"]) == ("proposed", "200", None)
    assert (waits["operation"], waits["amount"], waits["proposed_by"]) == (
        "grant_credits",
        "100.000001",
        "sam",
    )
    assert code(by_itself) == "not_allowed"
    assert (done["settled"], done["act_id"]) == ("300.000001", large["act_id"])
    granted = ledger.teams["acme"].events[-1].event
    assert (granted.actor.id, granted.reason) == ("bob", "a lost week")
    assert support.get(f"{TEAM}/acts").json()["data"] == []


def test_an_operator_grants_nothing_alone(alone: Caller, second: Caller) -> None:
    proposed = grant(alone, "1").json()
    alone_again = approve(alone, proposed["act_id"])
    done = approve(second, proposed["act_id"])
    twice = approve(second, proposed["act_id"])

    assert (proposed["outcome"], proposed["settled"]) == ("proposed", "100")
    assert code(alone_again) == "second_person_needed"
    assert done.json()["settled"] == "101"
    assert code(twice) == "unknown_act"


def test_what_is_refused_is_refused_before_it_is_proposed_and_an_old_proposal_lapses(
    support: Caller, second: Caller, ledger: MemoryLedger
) -> None:
    without_reason = support.post(f"{TEAM}/charges/{'0' * 32}/refunds", {"reason": "a lost week"})
    proposed = grant(support, "500").json()
    ledger.now += timedelta(days=8)

    late = approve(second, proposed["act_id"])

    assert code(without_reason) == "unknown_charge"
    assert code(late) == "act_refused"
    assert second.get(f"{TEAM}/acts").json()["data"] == []


def test_periods_and_roles_take_two_operators_but_a_first_owner_does_not(
    alone: Caller, second: Caller
) -> None:
    founded = alone.post(f"{TEAM}/members", {"member": "olga", "role": "owner"}).json()
    joins = alone.post(f"{TEAM}/members", {"member": "eve", "role": "owner", "reason": "she asked"}).json()
    closes = alone.post(f"{TEAM}/periods/close", {"reason": "all is here"}).json()

    assert founded["team_version"] == 1
    assert (joins["outcome"], closes["outcome"]) == ("proposed", "proposed")
    assert approve(second, joins["act_id"]).status_code == 201
    assert [each["member"] for each in second.get(f"{TEAM}/members").json()["data"]] == ["olga", "eve"]


def test_an_admin_buys_up_to_a_cap_and_an_owner_approves_the_rest(acme: Caller, ledger: MemoryLedger) -> None:
    admin = Caller(acme.http, give_member_key(ledger, "acme", "adam", "admin"))
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    paid = {"price_minor": 500, "currency": "EUR", "tax_minor": 95}
    asked = {"payment_reference": "pay-1", "cost_basis": paid, "reason": "a large order"}

    small = admin.post(f"{TEAM}/top-ups/requests", {**asked, "amount": "10000"}).json()
    large = admin.post(
        f"{TEAM}/top-ups/requests", {**asked, "amount": "10000.1", "payment_reference": "pay-2"}
    ).json()

    assert (small["outcome"], large["outcome"]) == (None, "proposed")
    assert approve(owner, large["act_id"]).json()["payment_reference"] == "pay-2"


def test_an_owner_approves_nothing_that_is_not_an_owners(
    acme: Caller, support: Caller, ledger: MemoryLedger
) -> None:
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    gift = grant(support, "5000").json()

    assert code(approve(owner, gift["act_id"])) == "role_too_low"


def test_an_admin_invites_up_to_member_and_changes_nobody_above(acme: Caller, ledger: MemoryLedger) -> None:
    """A16."""
    admin = Caller(acme.http, give_member_key(ledger, "acme", "adam", "admin"))
    give_member_key(ledger, "acme", "olga", "owner")
    members = f"{TEAM}/members"

    assert admin.post(members, {"member": "mira", "role": "member"}).status_code == 201
    for path, body in [
        (members, {"member": "eve", "role": "admin"}),
        (members, {"member": "eve", "role": "owner"}),
        (f"{members}/mira/role", {"role": "admin"}),
        (f"{members}/adam/role", {"role": "owner"}),
        (f"{members}/olga/role", {"role": "viewer"}),
        (f"{members}/olga/removal", {}),
    ]:
        assert code(admin.post(path, body)) == "role_too_low", (path, body)


def test_a_role_that_was_lost_a_moment_ago_counts_no_more(acme: Caller, ledger: MemoryLedger) -> None:
    """A16: decided in the transaction, whatever the door believed."""
    from api.keys import KeyRing
    from domain.commands import AddMember
    from domain.errors import RoleTooLow
    from domain.ledger import Caller as LedgerCaller
    from domain.ledger import Ledger
    from tests.api.conftest import PEPPER

    key = give_member_key(ledger, "acme", "olga", "owner")
    give_member_key(ledger, "acme", "otto", "owner")
    assert KeyRing(ledger, PEPPER) is not None
    assert key
    acme.post(f"{TEAM}/members/olga/role", {"role": "viewer"})

    with pytest.raises(RoleTooLow):
        Ledger(ledger, ledger.current).execute(
            AddMember(team_id="acme", member="eve", role="owner"), LedgerCaller("member:olga", "owner"), "k"
        )


def test_an_admin_limits_members_and_not_the_team(acme: Caller, ledger: MemoryLedger) -> None:
    admin = Caller(acme.http, give_member_key(ledger, "acme", "adam", "admin"))
    acme.post(f"{TEAM}/limits", {"limit_id": "team", "window": "day", "cap": "100"})
    member = {"limit_id": "mira", "window": "day", "cap": "10", "member": "mira"}

    assert admin.post(f"{TEAM}/limits", member).status_code == 201
    assert admin.post(f"{TEAM}/limits/mira/removal", {}).status_code == 201
    assert (
        code(admin.post(f"{TEAM}/limits", {"limit_id": "team", "window": "day", "cap": "1000"}))
        == "role_too_low"
    )
    assert code(admin.post(f"{TEAM}/limits/team/removal", {})) == "role_too_low"


def test_every_support_read_of_a_team_leaves_a_trace_that_its_owner_sees(
    acme: Caller, support: Caller, ledger: MemoryLedger
) -> None:
    """I26: once per person, operation and hour, before anything is told."""
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    for _ in range(5):
        support.get(f"{TEAM}/balance")
    support.get(f"{TEAM}/statement")
    ledger.now += timedelta(hours=1)
    support.get(f"{TEAM}/balance")
    owner.get(f"{TEAM}/balance")

    told = owner.get(f"{TEAM}/accesses").json()["data"]

    assert [(each["principal"], each["operation"], each["hour"][11:13]) for each in told] == [
        ("sam", "read_balance", "13"),
        ("sam", "read_statement", "12"),
        ("sam", "read_balance", "12"),
    ]


def test_traces_are_told_in_pages(acme: Caller, support: Caller, ledger: MemoryLedger) -> None:
    owner = Caller(acme.http, give_member_key(ledger, "acme", "olga", "owner"))
    for path in ("balance", "lots", "holds", "limits", "statement"):
        support.get(f"{TEAM}/{path}")

    told: list[str] = []
    page: dict[str, Any] = {"next": None}
    while not told or page["next"]:
        asked = {"limit": 2} | ({"after": page["next"]} if page["next"] else {})
        page = owner.get(f"{TEAM}/accesses", **asked).json()
        told += [each["operation"] for each in page["data"]]

    assert told == ["read_statement", "list_limits", "list_holds", "list_lots", "read_balance"]


def test_a_closed_account_can_be_looked_at_and_that_leaves_a_trace_too(
    acme: Caller, support: Caller, ledger: MemoryLedger
) -> None:
    acme.post(f"{TEAM}/close", {"reason": "the end"})

    assert support.get(f"{TEAM}/balance").status_code == 200
    assert len(ledger.teams["acme"].paperwork_events) == 1


def test_support_that_asks_for_a_team_that_is_not_there_leaves_no_trace(support: Caller) -> None:
    assert code(support.get("/v1/accounts/nobody/balance")) == "unknown_team"
