"""How far a role in a team goes: nobody gives, takes or changes what is above their own."""

from __future__ import annotations

from domain.commands import MemberRole
from domain.errors import RoleTooLow
from domain.team.decision import TeamDecision

RANKS: tuple[MemberRole, ...] = ("viewer", "member", "admin", "owner")
"""The roles, each above the one before."""

MEMBER_PREFIX = "member:"
"""Before the member's id in the name of the actor; no service is called so, so nobody is taken for somebody else."""


def require_rank(decision: TeamDecision, *roles: MemberRole, below: bool = False) -> None:
    """Whoever decides is no member of a team, or an admin or owner as high as each of these (``below``: higher, or owner).

    A member's role is the one that the team has now, whatever it was when the request came. Raises: RoleTooLow.
    """
    actor = decision.actor
    if actor.role not in RANKS:
        return
    now = decision.team.members.get(actor.id.removeprefix(MEMBER_PREFIX))
    if now is None or now.role != actor.role:
        raise RoleTooLow(f"{actor.id!r} is not {actor.role} any more: ask again in the role that it has now")
    rank = RANKS.index(now.role)
    if rank < RANKS.index("admin"):
        raise RoleTooLow(
            f"{actor.id!r} is {now.role}: roles and keys are given and taken by admins and owners",
            role=now.role,
        )
    for role in roles:
        other = RANKS.index(role)
        if other > rank or (below and other == rank and now.role != "owner"):
            raise RoleTooLow(
                f"{actor.id!r} is {now.role}: that is not enough for {role}, ask an owner", role=now.role
            )
