"""Who in a team may do what keeps work from starting: the roles that a remedy needs, and the members who have them.

What a role may ask of the API is the API's own table; this says whom to ask. Source: reference security model, "Who may do what".
"""

from __future__ import annotations

from typing import Literal

from domain.amounts import MICROS_PER_CREDIT
from domain.commands import MemberRole
from domain.team.state import Team

Remedy = Literal["spend", "top_up", "set_limit", "invite", "payment_details", "choose_plan", "resume"]

MAY: dict[Remedy, tuple[MemberRole, ...]] = {
    "spend": ("owner", "admin", "member"),
    "top_up": ("owner", "admin"),
    "set_limit": ("owner", "admin"),
    "invite": ("owner", "admin"),
    "payment_details": ("owner", "admin"),
    # The platform sells plans, and resumes what it suspended: no member does.
    "choose_plan": (),
    "resume": (),
}
"""The roles in a team that may do it; none where only the platform may."""

ALONE_MICROS: dict[tuple[Remedy, MemberRole], int] = {("top_up", "admin"): 10_000 * MICROS_PER_CREDIT}
"""Up to so many micro-credits the role does it alone; what is more waits until somebody without a bound approves it."""


def roles_alone(remedy: Remedy, amount_micros: int = 0) -> tuple[MemberRole, ...]:
    """The roles that may do it without anybody else, of so many credits."""
    return tuple(
        role for role in MAY[remedy] if amount_micros <= ALONE_MICROS.get((remedy, role), amount_micros)
    )


def who_may(team: Team, remedy: Remedy, amount_micros: int = 0) -> list[str]:
    """The members who may do it alone, of so many credits, in the order of joining."""
    return _having(team, roles_alone(remedy, amount_micros))


def who_may_ask(team: Team, remedy: Remedy, amount_micros: int) -> list[str]:
    """The members who may ask for so much of it, and then wait for an approval, in the order of joining."""
    alone = roles_alone(remedy, amount_micros)
    return _having(team, tuple(role for role in MAY[remedy] if role not in alone))


def who_may_approve(team: Team, remedy: Remedy) -> list[str]:
    """The members who may approve what another asked for, in the order of joining: whose role has no bound itself."""
    return _having(team, tuple(role for role in MAY[remedy] if (remedy, role) not in ALONE_MICROS))


def remedies_of(role: MemberRole) -> list[Remedy]:
    """What a member of the role may do, in the order of the table."""
    return [remedy for remedy, roles in MAY.items() if role in roles]


def _having(team: Team, roles: tuple[MemberRole, ...]) -> list[str]:
    return [member for member, now in team.members.items() if now.role in roles]
