"""Credits that come in: grants and top-ups, each a new lot that first repays debt; and grants taken back."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.account import lots
from domain.account.auto_top_up import fail_auto_top_up
from domain.account.decision import Decision
from domain.account.due import LATE_GRACE, pass_time, repay_debt
from domain.account.events import (
    DEFAULT_PRIORITY,
    CostBasis,
    CreditsGranted,
    CreditsToppedUp,
    GrantVoided,
    HoldLine,
    LotLine,
    LotSource,
    LotTerms,
    TopUpFailed,
    TopUpRequested,
)
from domain.account.index import TopUp
from domain.account.lots import NEVER
from domain.account.opening import require_active, require_open
from domain.account.standing import invoice_payment
from domain.account.state import OPEN_LOTS_MAX, TeamAccount
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import (
    AmountOutOfRange,
    LotTermsRefused,
    NothingToVoid,
    PaymentReferenceUsed,
    PaymentRefused,
    TooManyLots,
    UnknownLot,
    UnknownPayment,
)
from domain.times import instant_text

LAST_EXPIRY = NEVER - LATE_GRACE
"""Breakage is booked late grace after the expiry, and there is no later instant."""


class AskedLot(msgspec.Struct, frozen=True, kw_only=True):
    """The terms that whoever gives or sells credits may choose; effective now and never expiring unless said."""

    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None


ANY_USE = AskedLot()


def grant_credits(
    decision: Decision, amount_micros: int, source: LotSource = "promotional", asked: AskedLot = ANY_USE
) -> str:
    """The team holds a new lot of given credits, and debt is repaid by what is unscoped and effective now; returns the lot's id.

    Raises: LotTermsRefused for a lot issued expired or effective in the past; TooManyLots; AmountOutOfRange; AccountClosed.
    """
    terms = new_lot(decision, amount_micros, source, asked, None)
    account = decision.account
    decision.record(
        CreditsGranted(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            lot=terms,
            amount_micros=amount_micros,
            settled_after_micros=account.settled_micros + amount_micros,
            debt_after_micros=account.debt_micros,
        )
    )
    repay_debt(decision, decision.at)
    return terms.lot_id


def top_up_credits(
    decision: Decision,
    amount_micros: int,
    *,
    payment_reference: str,
    cost_basis: CostBasis,
    asked: AskedLot = ANY_USE,
    record_key: str | None = None,
) -> str:
    """The payment is settled: the team holds a new lot of bought credits with its cost basis; returns the lot's id.

    A payment that failed before may still settle: the money came. Raises: PaymentReferenceUsed when it bought credits already;
    PaymentRefused when other terms were requested under the reference; as ``grant_credits``.
    """
    require_open(decision.account)
    require_no_invoice_paid(decision, payment_reference)
    _require_unsettled(decision, payment_reference, amount_micros, cost_basis)
    terms = new_lot(decision, amount_micros, "purchased", asked, cost_basis)
    account = decision.account
    decision.record(
        CreditsToppedUp(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            lot=terms,
            amount_micros=amount_micros,
            payment_reference=payment_reference,
            record_key=record_key,
            settled_after_micros=account.settled_micros + amount_micros,
            debt_after_micros=account.debt_micros,
        )
    )
    repay_debt(decision, decision.at)
    return terms.lot_id


def request_top_up(
    decision: Decision,
    amount_micros: int,
    *,
    payment_reference: str,
    cost_basis: CostBasis,
    record_key: str | None = None,
) -> None:
    """A top-up was asked for; no credit comes before its payment is settled.

    Raises: PaymentReferenceUsed when the reference is on file; AmountOutOfRange; AccountSuspended; AccountClosed.
    """
    require_active(decision.account)
    require_no_invoice_paid(decision, payment_reference)
    on_file = top_up_on_file(decision, payment_reference)
    if on_file is not None:
        raise PaymentReferenceUsed(
            f"payment reference {payment_reference!r} is on file since version {on_file.version}: {on_file.status}",
            payment_reference=payment_reference,
        )
    pass_time(decision)
    _require_amount(decision.account, amount_micros)
    decision.record(
        TopUpRequested(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            payment_reference=payment_reference,
            amount_micros=amount_micros,
            cost_basis=cost_basis,
            record_key=record_key,
        )
    )


def fail_top_up(
    decision: Decision, payment_reference: str, failure: str, record_key: str | None = None
) -> None:
    """The payment failed and no credit came; an automatic top-up waits before it asks again, or stops.

    Raises: UnknownPayment; PaymentRefused when it is settled, or failed already; AccountClosed.
    """
    require_open(decision.account)
    on_file = require_top_up(decision, payment_reference)
    if on_file.status != "requested":
        raise PaymentRefused(
            f"payment {payment_reference!r} is {on_file.status}: only one that was requested can fail",
            payment_reference=payment_reference,
        )
    pass_time(decision)
    auto = decision.account.auto_top_up
    if auto is not None and auto.in_flight == payment_reference:
        fail_auto_top_up(decision, payment_reference, failure, record_key)
        return
    decision.record(
        TopUpFailed(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            payment_reference=payment_reference,
            failure=failure,
            record_key=record_key,
        )
    )


def void_grant(decision: Decision, lot_id: str) -> int:
    """What is left of the grant and its successors is gone, and holds no longer set it aside; returns how much that was.

    What was drawn from it stays drawn. Raises: UnknownLot; NothingToVoid for a bought lot, or one voided already; AccountClosed.
    """
    require_open(decision.account)
    pass_time(decision)
    account = decision.account
    terms = lot_terms(decision, lot_id)
    if terms.source == "purchased":
        raise NothingToVoid(f"lot {lot_id} was bought: a refund or a chargeback takes it back", lot_id=lot_id)
    if decision.index.entry("line", terms.origin_lot_id) is not None:
        raise NothingToVoid(f"lot {lot_id} is voided already", lot_id=lot_id)
    lines = line_left(account, terms.origin_lot_id)
    amount = lots.total(lines)
    decision.record(
        GrantVoided(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            origin_lot_id=terms.origin_lot_id,
            amount_micros=amount,
            lines=lines,
            holds=line_held(account, terms.origin_lot_id),
            settled_after_micros=account.settled_micros - amount,
            debt_after_micros=account.debt_micros,
        )
    )
    return amount


def lot_terms(decision: Decision, lot_id: str) -> LotTerms:
    """The terms of a lot, open or closed. Raises: UnknownLot."""
    lot = lots.find(decision.account, lot_id)
    if lot is not None:
        return lot.terms
    entry = decision.index.entry("lot", lot_id)
    if entry is None:
        raise UnknownLot(f"lot {lot_id[:80]!r} is not one of this team's", lot_id=lot_id[:80])
    return msgspec.json.decode(entry, type=LotTerms)


def line_left(account: TeamAccount, origin_lot_id: str) -> list[LotLine]:
    """What is left of a lot and its successors, by lot."""
    return [
        LotLine(lot.terms.lot_id, lot.remaining_micros)
        for lot in account.lots
        if lot.terms.origin_lot_id == origin_lot_id
    ]


def line_held(account: TeamAccount, origin_lot_id: str) -> list[HoldLine]:
    """What open holds set aside in a lot and its successors."""
    line = {lot.terms.lot_id for lot in account.lots if lot.terms.origin_lot_id == origin_lot_id}
    return [
        HoldLine(hold.hold_id, held.lot_id, held.amount_micros)
        for hold in account.holds
        for held in hold.lines
        if held.lot_id in line
    ]


def require_no_invoice_paid(decision: Decision, payment_reference: str) -> None:
    """The payment reference paid no invoice. Raises: PaymentReferenceUsed."""
    paid = invoice_payment(decision.index, payment_reference)
    if paid is not None:
        raise PaymentReferenceUsed(
            f"payment reference {payment_reference!r} is on file for {paid.amount_minor} minor units of {paid.currency} "
            f"of invoice {paid.invoice}: a payment counts once",
            payment_reference=payment_reference,
        )


def top_up_on_file(decision: Decision, payment_reference: str) -> TopUp | None:
    """What became of the payment reference, None when it is new."""
    entry = decision.index.entry("top_up", payment_reference)
    return msgspec.json.decode(entry, type=TopUp) if entry else None


def require_top_up(decision: Decision, payment_reference: str) -> TopUp:
    """What became of the payment reference. Raises: UnknownPayment."""
    on_file = top_up_on_file(decision, payment_reference)
    if on_file is None:
        raise UnknownPayment(
            f"payment reference {payment_reference[:128]!r} is not one of this team's",
            payment_reference=payment_reference[:128],
        )
    return on_file


def _require_unsettled(
    decision: Decision, payment_reference: str, amount_micros: int, cost_basis: CostBasis
) -> None:
    on_file = top_up_on_file(decision, payment_reference)
    if on_file is None or on_file.status == "failed":
        return
    if on_file.status == "settled":
        raise PaymentReferenceUsed(
            f"payment reference {payment_reference!r} bought credits at version {on_file.version} already",
            payment_reference=payment_reference,
        )
    if (on_file.amount_micros, on_file.cost_basis) != (amount_micros, cost_basis):
        raise PaymentRefused(
            f"payment {payment_reference!r} was requested for {format_credits(on_file.amount_micros)} credits at other terms: "
            "it settles for what was requested",
            payment_reference=payment_reference,
        )


def new_lot(
    decision: Decision, amount_micros: int, source: LotSource, asked: AskedLot, cost_basis: CostBasis | None
) -> LotTerms:
    """The terms of the lot to issue next, once time has passed and nothing forbids it."""
    require_open(decision.account)
    effective = asked.effective_at or decision.at
    _check_terms(decision.at, effective, asked.expires_at)
    account = decision.account
    _require_amount(account, amount_micros)
    if len(account.lots) >= OPEN_LOTS_MAX:
        raise TooManyLots(f"the account holds {OPEN_LOTS_MAX} open lots: let some burn or expire first")
    pass_time(decision)
    number = account.version + 1
    lot_id = f"lot-{number}"
    return LotTerms(
        lot_id=lot_id,
        number=number,
        source=source,
        origin_lot_id=lot_id,
        granted_at=decision.at,
        effective_at=effective,
        expires_at=asked.expires_at,
        priority=asked.priority,
        action=asked.action,
        project=asked.project,
        cost_basis=cost_basis,
    )


def _require_amount(account: TeamAccount, amount_micros: int) -> None:
    if not 0 < amount_micros <= AMOUNT_MAX - account.settled_micros:
        raise AmountOutOfRange(
            f"amount {format_credits(amount_micros)}: more than 0 is needed, and at most "
            f"{format_credits(AMOUNT_MAX - account.settled_micros)} more credits fit the account",
            field="amount",
        )


def _check_terms(at: datetime, effective_at: datetime, expires_at: datetime | None) -> None:
    if effective_at < at:
        raise LotTermsRefused(
            f"effective_at {instant_text(effective_at)} is in the past: {instant_text(at)} or later would be right",
            field="effective_at",
        )
    if expires_at is not None and expires_at <= effective_at:
        raise LotTermsRefused(
            f"expires_at {instant_text(expires_at)} is not after effective_at {instant_text(effective_at)}",
            field="expires_at",
        )
    if expires_at is not None and expires_at > LAST_EXPIRY:
        raise LotTermsRefused(
            f"expires_at {instant_text(expires_at)} has no instant of breakage: leave it out for a lot that never expires",
            field="expires_at",
        )
