"""Who a request comes from: a service with its key, or a member of a team; what each is called in the ledger."""

from __future__ import annotations

import msgspec

from domain.team.ranks import MEMBER_PREFIX


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a name, the role, the key's id, and what the credential is bound to.

    ``team_id`` and ``member`` are those of a member's credential. ``teams`` and ``actions`` are what a service's key lists (None:
    it lists nothing); ``scopes`` are the lines of the table of roles that the key is good for (None: all of its role's).
    """

    name: str
    role: str
    key_id: str | None = None
    team_id: str | None = None
    member: str | None = None
    teams: frozenset[str] | None = None
    actions: frozenset[str] | None = None
    scopes: frozenset[str] | None = None


def member_principal(
    team_id: str,
    member: str,
    role: str,
    *,
    key_id: str | None = None,
    scopes: frozenset[str] | None = None,
) -> Principal:
    """A member of a team, in the role that the team has for it."""
    return Principal(f"{MEMBER_PREFIX}{member}", role, key_id, team_id, member, scopes=scopes)
