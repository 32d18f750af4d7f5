"""Bodies about credits that come and go by hand: grants, voids, refunds, adjustments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.fields import Amount, Id, Name, Reason, Sent, Time, instant
from domain.account.events import DEFAULT_PRIORITY
from domain.amounts import parse_credits
from domain.commands import (
    AdjustBalance,
    ApproveAdjustment,
    GrantCredits,
    RefundCharge,
    VoidGrant,
)


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


class VoidBody(Sent):
    """Take back what is left of a grant."""

    reason: Reason

    def command(self, team_id: str, lot_id: str) -> VoidGrant:
        """The command that this body asks for."""
        return VoidGrant(team_id=team_id, lot_id=lot_id, reason=self.reason)


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


class AdjustmentBody(Sent):
    """Raise or lower the balance by hand."""

    direction: Literal["raise", "lower"]
    amount: Amount
    reason: Reason

    def command(self, team_id: str) -> AdjustBalance:
        """The command that this body asks for."""
        return AdjustBalance(
            team_id=team_id,
            direction=self.direction,
            amount_micros=parse_credits(self.amount, "amount"),
            reason=self.reason,
        )


class ApprovalBody(Sent):
    """Approve an adjustment that somebody else proposed."""

    reason: Reason | None = None

    def command(self, team_id: str, adjustment_id: str) -> ApproveAdjustment:
        """The command that this body asks for."""
        return ApproveAdjustment(team_id=team_id, adjustment_id=adjustment_id, reason=self.reason)
