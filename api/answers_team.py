"""Answers about people and paperwork: members, billing details, payment method, adjustments that wait."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import Instant, Micros, Told


class TeamPlace(Told):
    """What an answer about a team's people and paperwork knows: their own version, which is not the account's."""

    team_id: str
    team_version: Annotated[
        int, Field(description="How many events of this kind there were; 0 before the first.")
    ]
    position: int
    as_of: Instant


class MemberAnswer(Told):
    """A member and the role, since when."""

    member: str
    role: str
    since: Instant


class MembersAnswer(TeamPlace):
    """Everyone in the team, in the order of joining."""

    data: list[MemberAnswer]


class BillingAnswer(Told):
    """Whom invoices are made out to."""

    name: str
    address_lines: list[str]
    country: str
    email: str | None
    tax_id: str | None
    locale: str | None


class BillingDetailsAnswer(TeamPlace):
    """Whom invoices are made out to; null when nobody said."""

    billing_details: BillingAnswer | None


class MethodAnswer(Told):
    """How a team pays, as a person recognises it; the provider's token is not told."""

    brand: str
    last_four: str
    expires_month: int
    expires_year: int


class PaymentMethodAnswer(TeamPlace):
    """How the team pays; null when nothing is on file."""

    payment_method: MethodAnswer | None


class AdjustmentAnswer(Told):
    """An adjustment that waits for a second person."""

    adjustment_id: str
    direction: str
    amount: Micros
    proposed_by: str
    proposed_at: Instant
    reason: str | None


class AdjustmentsAnswer(TeamPlace):
    """Adjustments that wait for a second person, in the order of proposal."""

    data: list[AdjustmentAnswer]
