"""What a team's people and paperwork are now: members, whom to invoice, how it pays, adjustments that wait."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.actors import Actor
from domain.commands import BillingDetails, MemberRole, PaymentMethod
from domain.team.events import AdjustmentDirection
from domain.volumes import SavedPlan

TEAM_SCHEMA = 2
"""Counts up when the state of the same events would be stored otherwise; heads of another schema are folded again."""

SPENDING_PLANS_MAX = 20
"""So many saved plans, the newest, are at hand; older ones are in the history."""

TEAM_NAMESPACE = uuid5(NAMESPACE_URL, "urn:coffer:team")


def team_stream_id(team_id: str) -> UUID:
    """The id of a team's stream: ``uuid5(TEAM_NAMESPACE, team id)``, fixed for ever."""
    return uuid5(TEAM_NAMESPACE, team_id)


class Member(msgspec.Struct, frozen=True):
    """A member's role, and since when it has that role."""

    role: MemberRole
    since: datetime


class ProposedAdjustment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An adjustment of the balance that waits for a second person."""

    adjustment_id: str
    direction: AdjustmentDirection
    amount_micros: int
    proposed_by: Actor
    proposed_at: datetime
    reason: str | None = None


class TeamKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key of a member that was not revoked; it may have expired."""

    member: str
    created_at: datetime
    expires_at: datetime | None = None
    scopes: list[str] | None = None

    def is_live(self, at: datetime) -> bool:
        """Whether the key has not expired at the instant."""
        return self.expires_at is None or at < self.expires_at


ACT_LASTS = timedelta(days=7)
"""Nobody is surprised by an approval of what was proposed long ago."""


class ProposedAct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What waits for a second person: a command, as JSON, and which operation it is."""

    act_id: str
    operation: str
    command: str
    proposed_by: Actor
    proposed_at: datetime
    amount_micros: int | None = None
    reason: str | None = None

    def is_late(self, at: datetime) -> bool:
        """Whether it was proposed too long ago to be approved."""
        return at - self.proposed_at > ACT_LASTS


class Team(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One team's people and paperwork as of ``version``, 0 before its first event.

    ``members`` are by id, in the order of joining; ``adjustments`` and ``acts`` those that are open, by id, in the order of
    proposal; ``keys`` those that were not revoked, by id, in the order of making; ``spending_plans`` the newest that were saved,
    by id, in the order of saving.
    """

    team_id: str
    version: int = 0
    recorded_at: datetime | None = None
    members: dict[str, Member] = {}
    billing_details: BillingDetails | None = None
    payment_method: PaymentMethod | None = None
    adjustments: dict[str, ProposedAdjustment] = {}
    spending_plans: dict[str, SavedPlan] = {}
    keys: dict[str, TeamKey] = {}
    acts: dict[str, ProposedAct] = {}

    def owners(self) -> list[str]:
        """The members who are owners."""
        return [member for member, now in self.members.items() if now.role == "owner"]


def copy_of(team: Team) -> Team:
    """A team equal to this one that shares nothing that changes."""
    return msgspec.structs.replace(
        team,
        members=dict(team.members),
        adjustments=dict(team.adjustments),
        spending_plans=dict(team.spending_plans),
        keys=dict(team.keys),
        acts=dict(team.acts),
    )
