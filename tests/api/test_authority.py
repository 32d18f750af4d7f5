"""Whom a remedy names may really do it: the domain's list agrees with the table of the API."""

from __future__ import annotations

import pytest

from api.roles import TABLE, TEAM_ROLES, approved_by, may
from api.roles import cell as cell_of
from domain.amounts import MICROS_PER_CREDIT
from domain.spending.authority import ALONE_MICROS, MAY, Remedy, roles_alone, who_may_approve
from domain.team.state import Member, Team
from tests.builders import when

OPERATIONS: dict[Remedy, str] = {
    "spend": "place_hold",
    "top_up": "request_top_up",
    "set_limit": "set_limit",
    "invite": "add_member",
    "payment_details": "set_payment_method",
    "choose_plan": "assign_plan",
    "resume": "resume_account",
}


def allowed(operation: str) -> set[str]:
    """The roles in a team that may do the operation."""
    [line] = [line for line in TABLE if operation in line.operations]
    return {role for role in TEAM_ROLES if role in line.cells}


@pytest.mark.parametrize("remedy", sorted(OPERATIONS))
def test_whoever_is_named_for_a_remedy_may_do_it(remedy: Remedy) -> None:
    assert set(MAY[remedy]) == allowed(OPERATIONS[remedy])


@pytest.mark.parametrize("remedy", sorted(OPERATIONS))
def test_how_much_a_role_does_alone_is_what_the_table_says(remedy: Remedy) -> None:
    # A bound is on credits: what has no amount is done alone, unless its cell says two persons.
    cells = {role: cell_of(role, OPERATIONS[remedy]) for role in MAY[remedy]}
    assert not any(cell.two_persons for cell in cells.values() if cell is not None)
    table = {
        role: cell.alone_micros if cell is not None and remedy == "top_up" else None
        for role, cell in cells.items()
    }
    bounds = {role: ALONE_MICROS.get((remedy, role)) for role in MAY[remedy]}

    assert bounds == table
    for role, bound in bounds.items():
        assert role in roles_alone(remedy, bound if bound is not None else 2**62)
        assert bound is None or role not in roles_alone(remedy, bound + 1)


def test_an_admin_buys_ten_thousand_credits_alone() -> None:
    assert ALONE_MICROS == {("top_up", "admin"): 10_000 * MICROS_PER_CREDIT}


def test_whoever_is_named_to_approve_a_purchase_may_approve_one() -> None:
    team = Team(team_id="acme", members={role: Member(role, when("2026-11-01 00:00")) for role in TEAM_ROLES})

    approving = {
        role for role in TEAM_ROLES if may(role, "approve_act") and "request_top_up" in approved_by(role)
    }

    assert set(who_may_approve(team, "top_up")) == approving == {"owner"}


def test_every_remedy_is_held_against_the_table() -> None:
    assert set(OPERATIONS) == set(MAY)
