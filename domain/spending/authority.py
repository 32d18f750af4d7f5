"""Who in a team may do what keeps work from starting: the roles that a remedy needs, and the members who have them.

What a role may ask of the API is the API's own table; this says whom to ask. Source: reference security model, "Who may do what".
"""

from __future__ import annotations

from typing import Literal

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


def who_may(team: Team, remedy: Remedy) -> list[str]:
    """The members who may do it, in the order of joining."""
    return [member for member, now in team.members.items() if now.role in MAY[remedy]]


def remedies_of(role: MemberRole) -> list[Remedy]:
    """What a member of the role may do, in the order of the table."""
    return [remedy for remedy, roles in MAY.items() if role in roles]
