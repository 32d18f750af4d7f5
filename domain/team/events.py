"""Every event of a team's people and paperwork, with its stable topic: what happened, in the past tense.

They live in the same log as the team's account, in a stream of their own. Any of them may come first, so each names its team:
a stream's id cannot be turned back into one.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.actors import Actor
from domain.commands import BillingDetails, MemberRole, PaymentMethod
from domain.volumes import SavedPlan

AdjustmentDirection = Literal["raise", "lower"]


class TeamEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a team carries: whose it is, when the ledger wrote it, who caused it, why, and on whose behalf."""

    TOPIC: ClassVar[str] = ""
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ()
    """Earlier shapes that read as this one: what they did not say has its default."""

    team_id: str
    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class MemberJoined(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A member joined the team in a role."""

    TOPIC: ClassVar[str] = "MemberJoined.1"

    member: str
    role: MemberRole


class MemberRoleChanged(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A member has another role."""

    TOPIC: ClassVar[str] = "MemberRoleChanged.1"

    member: str
    role: MemberRole
    role_before: MemberRole


class MemberLeft(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A member left the team; ``role`` is what it was."""

    TOPIC: ClassVar[str] = "MemberLeft.1"

    member: str
    role: MemberRole


class BillingDetailsChanged(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Invoices are made out to these details from now on."""

    TOPIC: ClassVar[str] = "BillingDetailsChanged.1"

    details: BillingDetails


class PaymentMethodSet(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The team pays by this method from now on."""

    TOPIC: ClassVar[str] = "PaymentMethodSet.1"

    method: PaymentMethod


class PaymentMethodRemoved(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The team has no payment method any more."""

    TOPIC: ClassVar[str] = "PaymentMethodRemoved.1"


class AdjustmentProposed(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants to adjust the balance by more than one person may: it waits for a second one."""

    TOPIC: ClassVar[str] = "AdjustmentProposed.1"

    adjustment_id: str
    direction: AdjustmentDirection
    amount_micros: int


class AdjustmentApproved(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A second person approved; the account's own event is written in the same transaction."""

    TOPIC: ClassVar[str] = "AdjustmentApproved.1"

    adjustment_id: str
    direction: AdjustmentDirection
    amount_micros: int
    proposed_by: Actor


class SpendingPlanSaved(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A spending plan was worked out and saved, to be compared with what then really happens."""

    TOPIC: ClassVar[str] = "SpendingPlanSaved.1"

    plan: SavedPlan


class KeyCreated(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A member has another API key; its secret was shown once, and nobody keeps it. ``scopes`` None: all that the role may."""

    TOPIC: ClassVar[str] = "KeyCreated.1"

    key_id: str
    member: str
    expires_at: datetime | None = None
    scopes: list[str] | None = None


class KeyRevoked(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The key opens nothing any more: revoked, or its member left."""

    TOPIC: ClassVar[str] = "KeyRevoked.1"

    key_id: str
    member: str


class ActProposed(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants what one person may not do alone: ``command``, as JSON, waits for a second one."""

    TOPIC: ClassVar[str] = "ActProposed.1"

    act_id: str
    operation: str
    command: str
    amount_micros: int | None = None


class ActApproved(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A second person approved; what was proposed is done in the same transaction."""

    TOPIC: ClassVar[str] = "ActApproved.1"

    act_id: str
    operation: str
    proposed_by: Actor


class AccessRecorded(TeamEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Support or an operator read something of the team: once per principal, operation and hour, however often."""

    TOPIC: ClassVar[str] = "AccessRecorded.1"

    operation: str
    hour: datetime


TEAM_EVENTS: tuple[type[TeamEvent], ...] = (
    MemberJoined,
    MemberRoleChanged,
    MemberLeft,
    BillingDetailsChanged,
    PaymentMethodSet,
    PaymentMethodRemoved,
    AdjustmentProposed,
    AdjustmentApproved,
    SpendingPlanSaved,
    KeyCreated,
    KeyRevoked,
    ActProposed,
    ActApproved,
    AccessRecorded,
)
"""All events that a team's stream may hold."""


class RecordedTeamEvent(msgspec.Struct, frozen=True):
    """A team's event at its place: the stream's id and the version that the event made."""

    originator_id: object
    originator_version: int
    event: TeamEvent
