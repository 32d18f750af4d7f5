"""The bodies that callers send, and the command that each becomes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.fields import (
    CURRENCY_PATTERN,
    Amount,
    CardId,
    DimensionValue,
    Id,
    Name,
    Quantity,
    Reason,
    Sent,
    TeamId,
    Time,
    Zone,
    instant,
)
from domain.account.events import CostBasis
from domain.account.funding import DEFAULT_PRIORITY
from domain.amounts import parse_credits
from domain.ledger import CloseAccount, GrantCredits, OpenAccount, RefundCharge, TopUpCredits

METERS_MAX = 16
DIMENSIONS_MAX = 32
MINOR_UNITS_MAX = 10**15


class OpenAccountBody(Sent):
    """Open a team's account."""

    team_id: TeamId
    zone: Zone = "UTC"
    anchor_day: Annotated[int, Field(ge=1, le=31, description="Day of the month on which periods start.")] = 1
    card_id: CardId = "standard"
    reason: Reason | None = None

    def command(self) -> OpenAccount:
        """The command that this body asks for."""
        return OpenAccount(
            team_id=self.team_id,
            zone=self.zone,
            anchor_day=self.anchor_day,
            card_id=self.card_id,
            reason=self.reason,
        )


class CloseAccountBody(Sent):
    """Close a team's account."""

    reason: Reason

    def command(self, team_id: str) -> CloseAccount:
        """The command that this body asks for."""
        return CloseAccount(team_id=team_id, reason=self.reason)


class LotBody(Sent):
    """The terms of a new lot."""

    amount: Amount
    effective_at: Time | None = None
    expires_at: Time | None = None
    priority: Annotated[int, Field(ge=0, le=1_000, description="Lower burns first.")] = DEFAULT_PRIORITY
    action: Name | None = None
    project: Id | None = None


class GrantBody(LotBody):
    """Give credits as a new lot."""

    source: Literal["included", "promotional"] = "promotional"
    reason: Reason

    def command(self, team_id: str) -> GrantCredits:
        """The command that this body asks for."""
        return GrantCredits(
            team_id=team_id,
            reason=self.reason,
            amount_micros=parse_credits(self.amount, "amount"),
            source=self.source,
            effective_at=instant(self.effective_at, "effective_at"),
            expires_at=instant(self.expires_at, "expires_at"),
            priority=self.priority,
            action=self.action,
            project=self.project,
        )


class CostBasisBody(Sent):
    """What was paid: minor units of a currency, tax apart."""

    price_minor: Annotated[int, Field(ge=0, le=MINOR_UNITS_MAX, examples=[1000])]
    currency: Annotated[str, Field(pattern=CURRENCY_PATTERN, examples=["EUR"])]
    tax_minor: Annotated[int, Field(ge=0, le=MINOR_UNITS_MAX)] = 0


class TopUpBody(LotBody):
    """Sell credits as a new lot."""

    payment_reference: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$", examples=["pay-2026-0001"])]
    cost_basis: CostBasisBody
    reason: Reason | None = None

    def command(self, team_id: str) -> TopUpCredits:
        """The command that this body asks for."""
        paid = self.cost_basis
        return TopUpCredits(
            team_id=team_id,
            reason=self.reason,
            amount_micros=parse_credits(self.amount, "amount"),
            payment_reference=self.payment_reference,
            cost_basis=CostBasis(paid.price_minor, paid.currency, paid.tax_minor),
            effective_at=instant(self.effective_at, "effective_at"),
            expires_at=instant(self.expires_at, "expires_at"),
            priority=self.priority,
            action=self.action,
            project=self.project,
        )


class RefundBody(Sent):
    """Give a charge back: all that is left of it, or an amount."""

    amount: Annotated[Amount | None, Field(description="All that is left of the charge, when not given.")] = (
        None
    )
    reason: Reason

    def command(self, team_id: str, charge_id: str) -> RefundCharge:
        """The command that this body asks for."""
        amount = None if self.amount is None else parse_credits(self.amount, "amount")
        return RefundCharge(team_id=team_id, charge_id=charge_id, amount_micros=amount, reason=self.reason)


class EstimateBody(Sent):
    """A use that is planned: what would it cost now?"""

    action: Name
    meters: Annotated[dict[Name, Quantity], Field(max_length=METERS_MAX, examples=[{"images": "4"}])]
    dimensions: Annotated[
        dict[Name, DimensionValue], Field(max_length=DIMENSIONS_MAX, examples=[{"model": "base"}])
    ] = Field(default_factory=dict)
    project: Id | None = None
