"""Whom a remedy names may really do it: the domain's list agrees with the table of the API."""

from __future__ import annotations

import pytest

from api.roles import TABLE, TEAM_ROLES
from domain.spending.authority import MAY, Remedy

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


def test_every_remedy_is_held_against_the_table() -> None:
    assert set(OPERATIONS) == set(MAY)
