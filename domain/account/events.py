"""Every event of a team's account, with its stable topic: what happened, in the past tense.

Amounts are micro-credits and never negative; the name of the event gives the direction. An event carries all that applying it
needs, so that folding a stream asks nobody. ``settled_after_micros`` and ``debt_after_micros`` are the account's sums once
the event is applied; applying asserts them.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.actors import Actor
from domain.billing import BillingDetails
from domain.issuer.details import MAIN_ISSUER, IssuerDetails
from domain.terms import CapturePolicy as CapturePolicy  # noqa: PLC0414 - told on: an event's parts come from here
from domain.terms import CardPin as CardPin  # noqa: PLC0414 - told on: an event's parts come from here
from domain.terms import LimitTerms as LimitTerms  # noqa: PLC0414 - told on: an event's parts come from here
from domain.terms import LimitWindow as LimitWindow  # noqa: PLC0414 - told on: an event's parts come from here
from domain.terms import PlanTerms as PlanTerms  # noqa: PLC0414 - told on: an event's parts come from here
from domain.usage import Origin, UsageStatus

LotSource = Literal["included", "promotional", "purchased", "raised"]
RefundTarget = Literal["lot", "debt", "repayment", "voided"]


DEFAULT_PRIORITY = 20


class CostBasis(msgspec.Struct, frozen=True, gc=False):
    """What a lot was bought for: minor units of an ISO 4217 currency, tax apart."""

    price_minor: int
    currency: str
    tax_minor: int = 0


class LotTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The terms of one issue of credits; they never change once issued.

    ``origin_lot_id`` names the first lot of a line of successors, itself for a lot that succeeds none; ``number`` is the
    version at which that first lot was issued, and the burn order's last tie-break before the lot id. ``rolls_over`` marks an
    allowance: what is left of it at the turn moves on, up to the plan's cap, to a lot that does not roll again.
    """

    lot_id: str
    number: int
    source: LotSource
    origin_lot_id: str
    granted_at: datetime
    effective_at: datetime
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None
    cost_basis: CostBasis | None = None
    rolls_over: bool = False


class LotLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits drawn from one lot."""

    lot_id: str
    amount_micros: int


class RefundLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits given back by a refund.

    ``target`` "lot": back to the lot that the charge drew. "debt": lowers today's debt; the lot ids are empty.
    "repayment": back to a lot that once repaid debt; ``repayment_key`` names that repayment and ``repayment_left_micros``
    what of it may still come back afterwards. "voided": the lot belongs to a voided grant, so nothing comes back.
    ``lot_id`` is the lot that receives: ``drawn_lot_id``, or its successor where that has expired.
    """

    target: RefundTarget
    amount_micros: int
    lot_id: str = ""
    drawn_lot_id: str = ""
    repayment_key: str = ""
    repayment_left_micros: int = 0


class CounterMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tier counter after a charge: its key, the start of its period, its position in the term's own unit."""

    key: str
    period_start: datetime
    position_after: int


class HoldLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits that a hold sets aside, or no longer does, in one lot."""

    hold_id: str
    lot_id: str
    amount_micros: int


class HoldLeft(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an ended hold may still give to late usage, and whether the total of its quote was charged."""

    lines: list[LotLine]
    is_quote_charged: bool = False


class RolledLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits that moved from an expiring lot to its successor; those of a hold stay in that hold ("" for none)."""

    lot_id: str
    to_lot_id: str
    amount_micros: int
    hold_id: str = ""


class WindowMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One window of a limit after a charge or refund: its bounds, the use in it, the thresholds reached in it."""

    limit_id: str
    start: datetime
    end: datetime | None
    used_after_micros: int
    reached: list[int] = []


class QuotePin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The quote that a hold named: the card version, the use it was given for and its total."""

    quote_id: str
    card: CardPin
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    total_micros: int
    computation: msgspec.Raw


class MoneyDue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The money of one document in one currency, in minor units: ``paid_minor`` is what was paid before it was issued."""

    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    paid_minor: int


class CreditNoteLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Money given back by a credit note, in minor units, and what for."""

    text: str
    net_minor: int
    tax_minor: int


class AccountEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What every event of an account carries: when the ledger wrote it, who caused it, why, and on whose behalf."""

    TOPIC: ClassVar[str] = ""
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ()
    """Earlier shapes that read as this one: what they did not say has its default."""

    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class MovingEvent(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An event that moves credits, with the account's sums after it."""

    settled_after_micros: int
    debt_after_micros: int


class DueEvent(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What time alone did, as of ``effective_at``; ``due_id`` makes it once for ever (None: done by a command)."""

    due_id: str | None = None
    effective_at: datetime


class AccountOpened(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The team has an account; periods are monthly from ``anchor_day`` in ``zone``; ``card_id`` names its rate card.

    Its books begin with the period that holds ``books_from`` (None: when it was opened); ``books_start`` and ``books_end`` bound
    that period. ``issuer_id`` names who sells to the team.
    """

    TOPIC: ClassVar[str] = "AccountOpened.1"

    team_id: str
    zone: str
    anchor_day: int
    card_id: str
    issuer_id: str = MAIN_ISSUER
    books_from: datetime | None = None
    books_start: datetime | None = None
    books_end: datetime | None = None


class AccountClosed(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The account takes no further command about credits and no usage; documents of its periods go on."""

    TOPIC: ClassVar[str] = "AccountClosed.1"


class CreditsGranted(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Credits were given: a new lot."""

    TOPIC: ClassVar[str] = "CreditsGranted.1"

    lot: LotTerms
    amount_micros: int


class CreditsToppedUp(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Credits were bought: a new lot with its cost basis, under a payment reference unique in the team."""

    TOPIC: ClassVar[str] = "CreditsToppedUp.1"

    lot: LotTerms
    amount_micros: int
    payment_reference: str
    record_key: str | None = None


class CreditsCharged(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A usage record was charged: lot lines in the order they were drawn, the rest became debt.

    ``computation`` is the stored price computation (see ``domain.pricing``); ``lines`` and ``debt_micros`` sum to
    ``amount_micros``. ``hold_lines`` are the part of ``lines`` that the record's own hold had set aside; ``hold_left`` what an
    ended hold may still give afterwards (None: the hold is open, or there is none). ``limits_passed`` names the hard limits
    whose window is now beyond its cap. ``context_digest`` is the salted digest of the erasable context.
    """

    TOPIC: ClassVar[str] = "CreditsCharged.2"
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ("CreditsCharged.1",)

    charge_id: str
    source: str
    id: str
    occurred_at: datetime
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    content_digest: str
    context_digest: str | None = None
    origin: Origin | None = None
    card: CardPin
    computation: msgspec.Raw
    amount_micros: int
    lines: list[LotLine] = []
    debt_micros: int = 0
    counters: list[CounterMove] = []
    hold_id: str | None = None
    hold_lines: list[LotLine] = []
    hold_left: HoldLeft | None = None
    quote_id: str | None = None
    windows: list[WindowMove] = []
    limits_passed: list[str] = []


class UsageWaived(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A usage record costs nothing: failed or cancelled work, work that a correction names, or nothing to price.

    ``corrects_charge_id`` names the record this one corrects; ``refund_id`` the refund it caused, if any;
    ``corrected_by`` the id of the correction that had come first.
    """

    TOPIC: ClassVar[str] = "UsageWaived.1"

    charge_id: str
    source: str
    id: str
    occurred_at: datetime
    action: str
    status: UsageStatus
    waiver: Literal["failed", "corrected", "nothing_to_price"]
    meters: dict[str, str] = {}
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    content_digest: str
    context_digest: str | None = None
    origin: Origin | None = None
    corrects_charge_id: str | None = None
    refund_id: str | None = None
    corrected_by: str | None = None
    hold_id: str | None = None


class CorrectionAwaited(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A correction named a record not seen yet; that record will be waived when it arrives."""

    TOPIC: ClassVar[str] = "CorrectionAwaited.1"

    charge_id: str
    corrected_by: str


class ChargeRefunded(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Part or all of a charge was given back, in reverse order of its lines.

    ``lots`` holds the terms of every lot that the refund opens again or newly opens (successors of expired lots).
    One refund may leave several of these events, with one ``refund_id``, where debt is repaid between its lines.
    ``refunded_after_micros`` is all that was ever refunded of the charge; ``windows`` are those of the charge, with the use
    given back.
    """

    TOPIC: ClassVar[str] = "ChargeRefunded.2"
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ("ChargeRefunded.1",)

    refund_id: str
    charge_id: str
    amount_micros: int
    lines: list[RefundLine]
    lots: list[LotTerms] = []
    refunded_after_micros: int
    windows: list[WindowMove] = []


class DebtRepaid(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Unscoped credit repaid debt as of ``effective_at``; the lines name the lots, in burn order."""

    TOPIC: ClassVar[str] = "DebtRepaid.1"

    effective_at: datetime
    amount_micros: int
    lines: list[LotLine]


class CreditsExpired(DueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Breakage: what was left of an expired lot was booked as of ``effective_at``."""

    TOPIC: ClassVar[str] = "CreditsExpired.1"

    lot_id: str
    amount_micros: int


class AccountSuspended(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The account takes no new request to spend; usage is still charged, credit still comes in, refunds are made."""

    TOPIC: ClassVar[str] = "AccountSuspended.1"


class AccountResumed(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The account takes requests to spend again."""

    TOPIC: ClassVar[str] = "AccountResumed.1"


class ZoneChangeScheduled(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """From ``effective_at``, the next turn of the period, periods and windows are those of ``zone``."""

    TOPIC: ClassVar[str] = "ZoneChangeScheduled.1"

    zone: str
    effective_at: datetime


class PlanAssigned(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The team has this plan from ``effective_at``: now, or the turn of the period."""

    TOPIC: ClassVar[str] = "PlanAssigned.1"

    plan: PlanTerms
    effective_at: datetime


class AllowanceGranted(DueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A period of the plan began, or its allowance grew: the allowance is a new lot that expires at ``period_end``.

    No lot when there is nothing to grant. ``plan_id`` and ``plan_version`` are in force from ``effective_at``.
    """

    TOPIC: ClassVar[str] = "AllowanceGranted.1"

    plan_id: str
    plan_version: int
    period_start: datetime
    period_end: datetime
    amount_micros: int
    lot: LotTerms | None = None


class CreditsRolledOver(DueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """At the turn, what was left of allowances moved, up to the cap, to lots that expire at the next turn; holds moved along."""

    TOPIC: ClassVar[str] = "CreditsRolledOver.1"

    amount_micros: int
    lots: list[LotTerms]
    lines: list[RolledLine]


class GrantVoided(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What was left of a grant and of its successors is gone; holds no longer set it aside."""

    TOPIC: ClassVar[str] = "GrantVoided.1"

    origin_lot_id: str
    amount_micros: int
    lines: list[LotLine]
    holds: list[HoldLine] = []


class BalanceRaised(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A manual adjustment: a new unscoped lot that never expires. ``adjustment_id`` names the approved proposal, if any."""

    TOPIC: ClassVar[str] = "BalanceRaised.1"

    lot: LotTerms
    amount_micros: int
    adjustment_id: str | None = None


class BalanceLowered(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A manual adjustment: unscoped credit taken away in burn order."""

    TOPIC: ClassVar[str] = "BalanceLowered.1"

    amount_micros: int
    lines: list[LotLine]
    adjustment_id: str | None = None


class CreditsHeld(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Credits are set aside for running work: a hold, open until ``expires_at`` at the latest; its lines pin lots."""

    TOPIC: ClassVar[str] = "CreditsHeld.1"

    hold_id: str
    amount_micros: int
    lines: list[LotLine]
    expires_at: datetime
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    quote: QuotePin | None = None


class HoldExtended(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The hold is open until ``expires_at`` at the latest."""

    TOPIC: ClassVar[str] = "HoldExtended.1"

    hold_id: str
    expires_at: datetime


class HoldCaptured(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A request turned part or all of a hold into a charge.

    ``hold_lines`` are the part of ``lines`` that the hold had set aside; ``lines`` and ``debt_micros`` sum to ``amount_micros``.
    A hold with nothing left set aside has ended.
    """

    TOPIC: ClassVar[str] = "HoldCaptured.1"

    hold_id: str
    charge_id: str
    occurred_at: datetime
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    amount_micros: int
    lines: list[LotLine]
    hold_lines: list[LotLine]
    debt_micros: int = 0
    windows: list[WindowMove] = []
    limits_passed: list[str] = []


class HoldReleased(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The hold has ended; what it had still set aside is available again. ``released_by`` is the usage that failed, if any."""

    TOPIC: ClassVar[str] = "HoldReleased.1"

    hold_id: str
    amount_micros: int
    released_by: str | None = None


class HoldExpired(DueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The hold ended by itself as of ``effective_at``; what it had still set aside is available again."""

    TOPIC: ClassVar[str] = "HoldExpired.1"

    hold_id: str
    amount_micros: int


class HoldDenied(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A hold was asked for and not given; the numbers are those of the rule that left least room.

    ``rule`` "available": no limit, the credits themselves; ``limit_micros`` is then what was available or held in all, and the
    window is empty. "limit": ``limit_id`` and its window at the time.
    """

    TOPIC: ClassVar[str] = "HoldDenied.1"

    rule: Literal["available", "limit"]
    limit_id: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    used_micros: int = 0
    held_micros: int
    limit_micros: int
    requested_micros: int
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None


class LimitSet(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A limit holds from ``effective_at``, or has other terms from then on; ``used_micros`` is the use of its window so far.

    ``plan_id``: the limit came with that plan and goes with it.
    """

    TOPIC: ClassVar[str] = "LimitSet.1"

    limit: LimitTerms
    effective_at: datetime
    window_start: datetime
    window_end: datetime | None
    used_micros: int
    plan_id: str | None = None


class LimitRemoved(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The limit holds no more from ``effective_at``."""

    TOPIC: ClassVar[str] = "LimitRemoved.1"

    limit_id: str
    effective_at: datetime


class LimitThresholdReached(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The use of a window came to a threshold of its limit, for the first time in that window."""

    TOPIC: ClassVar[str] = "LimitThresholdReached.1"

    limit_id: str
    threshold_percent: int
    window_start: datetime
    window_end: datetime | None
    used_micros: int
    cap_micros: int
    reached: list[int]


class AutoTopUpConfigured(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Automatic top-up is as said here: off, or an amount to buy when less than the threshold is available.

    ``money_cap_minor`` bounds what it may request in one ``window``; it stops after ``failures_max`` failures in a row.
    """

    TOPIC: ClassVar[str] = "AutoTopUpConfigured.1"

    enabled: bool
    threshold_micros: int = 0
    amount_micros: int = 0
    cost_basis: CostBasis | None = None
    money_cap_minor: int = 0
    window: LimitWindow = "month"
    failures_max: int = 3


class AutoTopUpRequested(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The payment provider is asked to charge the team's payment method; its answer comes on the payments stream.

    ``spent_minor`` is all that was requested in the window, this request included.
    """

    TOPIC: ClassVar[str] = "AutoTopUpRequested.1"

    payment_reference: str
    amount_micros: int
    cost_basis: CostBasis
    available_micros: int
    window_start: datetime
    window_end: datetime | None
    spent_minor: int


class AutoTopUpFailed(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The provider could not charge the team: the next request waits until ``retry_at``, or (None) for a new configuration."""

    TOPIC: ClassVar[str] = "AutoTopUpFailed.1"

    payment_reference: str
    failure: str
    failures: int
    retry_at: datetime | None = None
    record_key: str | None = None


class TopUpRequested(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A top-up was asked for; no credit comes before its payment is settled."""

    TOPIC: ClassVar[str] = "TopUpRequested.1"

    payment_reference: str
    amount_micros: int
    cost_basis: CostBasis
    record_key: str | None = None


class TopUpFailed(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The payment of a top-up failed; no credit came."""

    TOPIC: ClassVar[str] = "TopUpFailed.1"

    payment_reference: str
    failure: str
    record_key: str | None = None


class ChargeDisputeOpened(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A customer contests charges, with evidence."""

    TOPIC: ClassVar[str] = "ChargeDisputeOpened.1"

    dispute_id: str
    charge_ids: list[str]
    evidence: str


class ChargeDisputeUpheld(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The customer was right; the refunds that follow give ``amount_micros`` back. ``refund_id`` is on each of them."""

    TOPIC: ClassVar[str] = "ChargeDisputeUpheld.1"

    dispute_id: str
    refund_id: str
    amount_micros: int


class ChargeDisputeRejected(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The charges stand; ``reason`` says why."""

    TOPIC: ClassVar[str] = "ChargeDisputeRejected.1"

    dispute_id: str


class ChargebackOpened(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A bank takes a top-up back for now: what is left of its lot and successors is withheld."""

    TOPIC: ClassVar[str] = "ChargebackOpened.1"

    payment_reference: str
    origin_lot_id: str
    withheld_micros: int
    record_key: str | None = None


class ChargebackWon(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The top-up stands: what was withheld is back; ``expiries`` are those of lots that expire, the time withheld added.

    ``closed_lots`` are the terms, with their new expiry, of lots of the line with nothing left, kept for refunds.
    """

    TOPIC: ClassVar[str] = "ChargebackWon.1"

    payment_reference: str
    origin_lot_id: str
    expiries: dict[str, datetime] = {}
    closed_lots: list[LotTerms] = []
    record_key: str | None = None


class ChargebackLost(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The top-up is gone: what was left of its line is voided, what had been drawn from it is debt; holds are cut."""

    TOPIC: ClassVar[str] = "ChargebackLost.1"

    payment_reference: str
    origin_lot_id: str
    voided_micros: int
    drawn_micros: int
    lines: list[LotLine]
    holds: list[HoldLine] = []
    record_key: str | None = None


class QuoteWithdrawn(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """No hold may name the quote any more."""

    TOPIC: ClassVar[str] = "QuoteWithdrawn.1"

    quote_id: str


class PeriodClosed(DueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A period of the team's books is closed: what comes later for it is an adjustment of a later one.

    ``label`` is year and month of the period's start in ``zone``; the bounds are as they were computed when the period became the
    oldest open one. The next one runs from ``period_end`` to ``following_end``.
    """

    TOPIC: ClassVar[str] = "PeriodClosed.1"

    period_start: datetime
    period_end: datetime
    zone: str
    label: str
    following_end: datetime


class InvoiceIssued(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The invoice of a closed period was issued under ``invoice``, its number as it is printed; nothing of it changes any more.

    It is derived from the events before ``closed_version``, that of the period's PeriodClosed, and from this event, which has the
    details of issuer and customer as they were at ``issuer_version`` and ``team_version``. ``attempt`` counts the invoices of the
    period that were voided before. ``digest`` is the SHA-256 of its canonical JSON in the shape ``shape``.
    """

    TOPIC: ClassVar[str] = "InvoiceIssued.1"

    invoice: str
    issuer_id: str
    year: int
    number: int
    period_start: datetime
    period_end: datetime
    label: str
    closed_version: int
    opening_micros: int
    closing_micros: int
    attempt: int = 0
    cards: list[CardPin] = []
    shape: str
    digest: str
    due: list[MoneyDue] = []
    issuer: IssuerDetails
    customer: BillingDetails | None = None
    team_version: int
    issuer_version: int


class InvoiceOmitted(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing happened in a closed period, so there is no invoice of it."""

    TOPIC: ClassVar[str] = "InvoiceOmitted.1"

    period_start: datetime
    label: str
    closed_version: int
    closing_micros: int


class InvoicePaid(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Money came for an invoice, in minor units.

    ``paid_after_minor`` is all that was paid of it in this currency by then, before it was issued included; ``over_minor`` what
    of this payment was more than was due. ``is_settled``: nothing is due any more, in any currency.
    """

    TOPIC: ClassVar[str] = "InvoicePaid.1"

    invoice: str
    payment_reference: str
    amount_minor: int
    currency: str
    paid_after_minor: int
    over_minor: int = 0
    is_settled: bool = False
    record_key: str | None = None


class InvoiceVoided(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An invoice counts no more: ``invoice``, a document with a number of its own, says so.

    ``reissue``: the period waits for another invoice. ``attempt`` counts the voided invoices of the period, this one too.
    """

    TOPIC: ClassVar[str] = "InvoiceVoided.1"

    invoice: str
    issuer_id: str
    year: int
    number: int
    voided_invoice: str
    period_start: datetime
    attempt: int
    reissue: bool = False
    shape: str
    digest: str


class InvoiceUncollectible(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Nobody expects the money of an invoice any more: ``due_minor``, by currency. It still counts if it comes."""

    TOPIC: ClassVar[str] = "InvoiceUncollectible.1"

    invoice: str
    due_minor: dict[str, int]


class CreditNoteIssued(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Money of an invoice was corrected: ``invoice``, a credit note with a number of its own, gives its lines back.

    ``credited_after_minor`` is all that credit notes gave back of the invoice in this currency by then, tax included.
    ``is_settled``: nothing is due any more, in any currency.
    """

    TOPIC: ClassVar[str] = "CreditNoteIssued.1"

    invoice: str
    issuer_id: str
    year: int
    number: int
    corrected_invoice: str
    currency: str
    lines: list[CreditNoteLine]
    credited_after_minor: int
    is_settled: bool = False
    shape: str
    digest: str


class ContextErased(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What a member wrote is gone: so many contexts of usage, and so many texts of works. Digests on other events stay.

    A record that could not be charged and names the member goes, too, where it is kept.
    """

    TOPIC: ClassVar[str] = "ContextErased.1"

    member: str
    contexts: int
    work_texts: int


ACCOUNT_EVENTS: tuple[type[AccountEvent], ...] = (
    AccountOpened,
    AccountClosed,
    CreditsGranted,
    CreditsToppedUp,
    CreditsCharged,
    UsageWaived,
    CorrectionAwaited,
    ChargeRefunded,
    DebtRepaid,
    CreditsExpired,
    AccountSuspended,
    AccountResumed,
    ZoneChangeScheduled,
    PlanAssigned,
    AllowanceGranted,
    CreditsRolledOver,
    GrantVoided,
    BalanceRaised,
    BalanceLowered,
    CreditsHeld,
    HoldExtended,
    HoldCaptured,
    HoldReleased,
    HoldExpired,
    HoldDenied,
    LimitSet,
    LimitRemoved,
    LimitThresholdReached,
    AutoTopUpConfigured,
    AutoTopUpRequested,
    AutoTopUpFailed,
    TopUpRequested,
    TopUpFailed,
    ChargeDisputeOpened,
    ChargeDisputeUpheld,
    ChargeDisputeRejected,
    ChargebackOpened,
    ChargebackWon,
    ChargebackLost,
    QuoteWithdrawn,
    PeriodClosed,
    InvoiceIssued,
    InvoiceOmitted,
    InvoicePaid,
    InvoiceVoided,
    InvoiceUncollectible,
    CreditNoteIssued,
    ContextErased,
)
"""Every shape an account's stream may hold, current version; the allow-list of stored topics."""


Charge = CreditsCharged | HoldCaptured
"""What may be refunded: a usage record that was charged, or a capture by request."""

CHARGES = (CreditsCharged, HoldCaptured)


class RecordedEvent(msgspec.Struct, frozen=True):
    """An account event at its place: the account's id and the version the event made."""

    originator_id: object
    originator_version: int
    event: AccountEvent
