"""Credits that come in: grants and top-ups, each a new lot that first repays debt."""

from __future__ import annotations

from datetime import datetime

from domain.account.decision import Decision
from domain.account.due import LATE_GRACE, pass_time, repay_debt
from domain.account.events import CostBasis, CreditsGranted, CreditsToppedUp, LotSource, LotTerms
from domain.account.lots import NEVER
from domain.account.opening import require_open
from domain.account.state import OPEN_LOTS_MAX
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import AmountOutOfRange, LotTermsRefused, TooManyLots
from domain.times import instant_text

DEFAULT_PRIORITY = 20
LAST_EXPIRY = NEVER - LATE_GRACE
"""Breakage is booked late grace after the expiry, and there is no later instant."""


def grant_credits(
    decision: Decision,
    amount_micros: int,
    *,
    source: LotSource = "promotional",
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
    action: str | None = None,
    project: str | None = None,
) -> None:
    """The team holds a new lot of given credits, and debt is repaid by what is unscoped and effective now.

    Raises: LotTermsRefused for a lot issued expired or effective in the past; TooManyLots; AmountOutOfRange; AccountClosed.
    """
    terms = _new_lot(
        decision, amount_micros, source, effective_at, expires_at, priority, action, project, None
    )
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


def top_up_credits(
    decision: Decision,
    amount_micros: int,
    *,
    payment_reference: str,
    cost_basis: CostBasis,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
    action: str | None = None,
    project: str | None = None,
) -> None:
    """The team holds a new lot of bought credits with its cost basis, and debt is repaid as by a grant.

    That a payment reference buys once is kept by whoever saves the event. Raises: as ``grant_credits``.
    """
    terms = _new_lot(
        decision, amount_micros, "purchased", effective_at, expires_at, priority, action, project, cost_basis
    )
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
            settled_after_micros=account.settled_micros + amount_micros,
            debt_after_micros=account.debt_micros,
        )
    )
    repay_debt(decision, decision.at)


def _new_lot(
    decision: Decision,
    amount_micros: int,
    source: LotSource,
    effective_at: datetime | None,
    expires_at: datetime | None,
    priority: int,
    action: str | None,
    project: str | None,
    cost_basis: CostBasis | None,
) -> LotTerms:
    """The terms of the lot to issue next, once time has passed and nothing forbids it."""
    require_open(decision.account)
    effective = effective_at or decision.at
    _check_terms(decision.at, effective, expires_at)
    account = decision.account
    if not 0 < amount_micros <= AMOUNT_MAX - account.settled_micros:
        raise AmountOutOfRange(
            f"amount {format_credits(amount_micros)}: more than 0 is needed, and at most "
            f"{format_credits(AMOUNT_MAX - account.settled_micros)} more credits fit the account",
            field="amount",
        )
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
        expires_at=expires_at,
        priority=priority,
        action=action,
        project=project,
        cost_basis=cost_basis,
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
