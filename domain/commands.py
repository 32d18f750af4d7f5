"""What callers may ask of a team's account, each as one struct; its encoding is the body that an idempotency key binds."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from domain.account.events import (
    DEFAULT_PRIORITY,
    CostBasis,
    CreditNoteLine,
    LimitTerms,
    LimitWindow,
    LotSource,
)
from domain.billing import BillingDetails as BillingDetails  # noqa: PLC0414 - told on: a command's parts come from here
from domain.issuer.details import MAIN_ISSUER
from domain.volumes import VolumeLine
from domain.work.events import PlannedUse
from domain.work.texts import WorkText

HOLD_SECONDS = 3_600
"""How long a hold lasts when the request does not say."""


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """One request to change one team's account; its encoding is the body that an idempotency key binds."""

    team_id: str
    reason: str | None = None


# --- the account ---


class OpenAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Open the team's account. Its books begin with the period that holds ``books_from`` (None: now), for history to come."""

    zone: str = "UTC"
    anchor_day: int = 1
    card_id: str = "standard"
    issuer_id: str = MAIN_ISSUER
    books_from: datetime | None = None


class SuspendAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Take no new request to spend."""


class ResumeAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Take requests to spend again."""


class CloseAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Close the team's account."""


class AssignPlan(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Give the team the newest version of a plan, now or at the turn of its period."""

    plan_id: str
    takes_effect: Literal["now", "turn"] = "now"


class ScheduleZoneChange(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Move periods and windows to another zone from the next turn on."""

    zone: str


# --- credits that come and go ---


class GrantCredits(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Give credits as a new lot."""

    amount_micros: int
    source: LotSource = "promotional"
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None


class VoidGrant(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Take back what is left of a grant and its successors."""

    lot_id: str


class TopUpCredits(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Sell credits as a new lot, under a payment reference that buys once: its payment is settled."""

    amount_micros: int
    payment_reference: str
    cost_basis: CostBasis
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None


class RequestTopUp(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Note that a top-up was asked for; its payment is not settled yet."""

    amount_micros: int
    payment_reference: str
    cost_basis: CostBasis


class FailTopUp(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Note that the payment of a top-up, automatic or not, failed."""

    payment_reference: str
    failure: str


class ConfigureAutoTopUp(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Set automatic top-up, or switch it off."""

    enabled: bool
    threshold_micros: int = 0
    amount_micros: int = 0
    cost_basis: CostBasis | None = None
    money_cap_minor: int = 0
    window: LimitWindow = "month"
    failures_max: int = 3


class OpenChargeback(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Withhold what is left of a top-up that a bank takes back for now."""

    payment_reference: str


class WinChargeback(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Reinstate what an open chargeback withheld."""

    payment_reference: str


class LoseChargeback(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Void what an open chargeback withheld; what had been drawn becomes debt."""

    payment_reference: str


class AdjustBalance(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Raise or lower the balance by hand. Above the cap the adjustment is proposed, and another person approves it."""

    direction: Literal["raise", "lower"]
    amount_micros: int


class ApproveAdjustment(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Approve an adjustment that somebody else proposed; it happens at once."""

    adjustment_id: str


# --- periods and invoices ---


class ClosePeriod(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Close the oldest open period, which has ended, before late grace is over; ``period_start`` says which one it must be."""

    period_start: datetime | None = None


class VoidInvoice(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Let an invoice count no more, by a document that says so; with ``reissue`` its period gets another one."""

    invoice: str
    reissue: bool = False


class MarkUncollectible(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Expect no more money for an invoice."""

    invoice: str


class IssueCreditNote(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Correct the money of an invoice by a credit note."""

    invoice: str
    currency: str
    lines: list[CreditNoteLine]


# --- charges ---


class RefundCharge(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Give a charge back, all that is left of it or an amount."""

    charge_id: str
    amount_micros: int | None = None


class OpenChargeDispute(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Contest charges, with evidence."""

    charge_ids: list[str]
    evidence: str


class UpholdChargeDispute(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Decide for the customer: what is left of each charge is refunded."""

    dispute_id: str


class RejectChargeDispute(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Decide that the charges stand."""

    dispute_id: str


# --- holds and limits ---


class PlaceHold(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Set credits aside for work that is about to run: an amount, or the total of a quote, whose action then counts."""

    action: str
    amount_micros: int | None = None
    quote: str | None = None
    lasts_seconds: int = HOLD_SECONDS
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None


class ExtendHold(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Let a hold last so long from now, unless it lasts longer already."""

    hold_id: str
    lasts_seconds: int = HOLD_SECONDS


class CaptureHold(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Turn part or all of a hold into a charge for work done at ``occurred_at`` (None: now)."""

    hold_id: str
    amount_micros: int
    occurred_at: datetime | None = None


class ReleaseHold(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """End a hold; what it still sets aside is available again."""

    hold_id: str


class WithdrawQuote(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Let no hold name the quote any more."""

    quote_id: str


class SetLimit(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Set a limit, or change the cap, the kind or the thresholds of one that is there."""

    limit: LimitTerms


class RemoveLimit(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Take a limit away."""

    limit_id: str


# --- the team ---

MemberRole = Literal["owner", "admin", "member", "viewer"]


class AddMember(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A member joins the team in a role."""

    member: str
    role: MemberRole


class ChangeMemberRole(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A member has another role."""

    member: str
    role: MemberRole


class RemoveMember(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A member leaves the team."""

    member: str


class CreateKey(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A member has another API key, for all that the role may or only for some ``scopes`` of it."""

    member: str
    expires_at: datetime | None = None
    scopes: list[str] | None = None


class RevokeKey(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A key opens nothing any more."""

    key_id: str


class ApproveAct(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Approve what somebody else proposed; it happens at once."""

    act_id: str


class RecordAccess(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Leave a trace that somebody of the house reads something of the team in this hour."""

    operation: str
    hour: datetime


class SetBillingDetails(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Set whom invoices are made out to."""

    details: BillingDetails


class PaymentMethod(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the team pays, as the payment provider tells it: its token, and what a person recognises the card by."""

    token: str
    brand: str
    last_four: str
    expires_month: int
    expires_year: int


class SetPaymentMethod(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Set how the team pays. A card number is refused wherever it stands."""

    method: PaymentMethod


class RemovePaymentMethod(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Forget how the team pays."""


# --- works ---


class StartWork(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Begin a piece of work with its brief; what it plans to use is estimated as it would be charged now.

    ``member`` is whose text it is (None: the caller's); without ``work_id`` the work gets one.
    """

    brief: WorkText
    work_id: str | None = None
    member: str | None = None
    project: str | None = None
    planned: list[PlannedUse] = []


class SaveWorkStep(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Save a step of a work: how it was made and what came of it."""

    work_id: str
    step: str
    text: WorkText
    member: str | None = None


class CheckHandover(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Answer what must be known before a work is handed over, and sign it; ``next_use`` is what would come next."""

    work_id: str
    next_use: PlannedUse | None = None


class SaveWork(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Save the result of a work, which takes no further step."""

    work_id: str
    result: WorkText
    member: str | None = None


class EraseContexts(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Erase all that a member wrote: contexts of usage and texts of works. What it cost stays."""

    member: str


# --- spending plans ---


class SaveSpendingPlan(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Work out what these volumes come to in so many days, and keep the plan for an audience."""

    audience: str
    days: int
    volumes: list[VolumeLine]
