"""Bodies about credits that are bought: top-ups, automatic ones, and what a bank does with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import CURRENCY_PATTERN, Amount, Line, PaymentReference, Reason, Sent, instant
from api.requests.credits import LotBody
from domain.account.events import CostBasis
from domain.amounts import parse_credits
from domain.commands import (
    ConfigureAutoTopUp,
    FailTopUp,
    LoseChargeback,
    OpenChargeback,
    RequestTopUp,
    TopUpCredits,
    WinChargeback,
)
from domain.terms import LimitWindow

MINOR_UNITS_MAX = 10**15
FAILURES_MAX = 20


class CostBasisBody(Sent):
    """What was paid: minor units of a currency, tax apart."""

    price_minor: Annotated[int, Field(ge=0, le=MINOR_UNITS_MAX, examples=[1000])]
    currency: Annotated[str, Field(pattern=CURRENCY_PATTERN, examples=["EUR"])]
    tax_minor: Annotated[int, Field(ge=0, le=MINOR_UNITS_MAX)] = 0

    def told(self) -> CostBasis:
        """The same as the domain keeps it."""
        return CostBasis(self.price_minor, self.currency, self.tax_minor)


class TopUpBody(LotBody):
    """Sell credits as a new lot: the payment is settled."""

    payment_reference: PaymentReference
    cost_basis: CostBasisBody
    reason: Reason | None = None

    def command(self, team_id: str) -> TopUpCredits:
        """The command that this body asks for."""
        return TopUpCredits(
            team_id=team_id,
            reason=self.reason,
            amount_micros=parse_credits(self.amount, "amount"),
            payment_reference=self.payment_reference,
            cost_basis=self.cost_basis.told(),
            effective_at=instant(self.effective_at, "effective_at"),
            expires_at=instant(self.expires_at, "expires_at"),
            priority=self.priority,
            action=self.action,
            project=self.project,
        )


class TopUpRequestBody(Sent):
    """Note that a top-up was asked for, before its payment is settled."""

    amount: Amount
    payment_reference: PaymentReference
    cost_basis: CostBasisBody
    reason: Reason | None = None

    def command(self, team_id: str) -> RequestTopUp:
        """The command that this body asks for."""
        return RequestTopUp(
            team_id=team_id,
            reason=self.reason,
            amount_micros=parse_credits(self.amount, "amount"),
            payment_reference=self.payment_reference,
            cost_basis=self.cost_basis.told(),
        )


class TopUpFailureBody(Sent):
    """Note that the payment of a top-up failed."""

    failure: Annotated[Line, Field(description="Why, as the provider says it.", examples=["card_declined"])]
    reason: Reason | None = None

    def command(self, team_id: str, payment_reference: str) -> FailTopUp:
        """The command that this body asks for."""
        return FailTopUp(
            team_id=team_id,
            payment_reference=payment_reference,
            failure=self.failure,
            reason=self.reason,
        )


class AutoTopUpBody(Sent):
    """Set automatic top-up, or switch it off."""

    enabled: bool
    threshold: Annotated[Amount, Field(description="Buy when less than this is available.")] = "0"
    amount: Annotated[Amount, Field(description="Credits to buy each time.")] = "0"
    cost_basis: Annotated[CostBasisBody | None, Field(description="What that amount costs.")] = None
    money_cap_minor: Annotated[
        int,
        Field(ge=0, le=MINOR_UNITS_MAX, description="Minor units that one window may spend, tax included."),
    ] = 0
    window: LimitWindow = "month"
    failures_max: Annotated[
        int, Field(ge=1, le=FAILURES_MAX, description="Failures in a row after which it stops.")
    ] = 3
    reason: Reason | None = None

    def command(self, team_id: str) -> ConfigureAutoTopUp:
        """The command that this body asks for."""
        return ConfigureAutoTopUp(
            team_id=team_id,
            reason=self.reason,
            enabled=self.enabled,
            threshold_micros=parse_credits(self.threshold, "threshold"),
            amount_micros=parse_credits(self.amount, "amount"),
            cost_basis=self.cost_basis.told() if self.cost_basis else None,
            money_cap_minor=self.money_cap_minor,
            window=self.window,
            failures_max=self.failures_max,
        )


class ChargebackBody(Sent):
    """What a bank does, or decides, about a top-up."""

    reason: Reason | None = None

    def opens(self, team_id: str, payment_reference: str) -> OpenChargeback:
        """The command of a bank that takes the top-up back for now."""
        return OpenChargeback(team_id=team_id, payment_reference=payment_reference, reason=self.reason)

    def won(self, team_id: str, payment_reference: str) -> WinChargeback:
        """The command of a chargeback that was won: the top-up stands."""
        return WinChargeback(team_id=team_id, payment_reference=payment_reference, reason=self.reason)

    def lost(self, team_id: str, payment_reference: str) -> LoseChargeback:
        """The command of a chargeback that was lost: the top-up is gone."""
        return LoseChargeback(team_id=team_id, payment_reference=payment_reference, reason=self.reason)
