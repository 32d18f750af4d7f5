"""Manual adjustments: the balance raised by a new lot, or lowered by drawing unscoped lots, with a reason."""

from __future__ import annotations

from domain.account import lots
from domain.account.decision import Decision
from domain.account.due import pass_time, repay_debt
from domain.account.events import BalanceLowered, BalanceRaised
from domain.account.funding import ANY_USE, new_lot
from domain.account.opening import require_open
from domain.amounts import format_credits
from domain.errors import AdjustmentRefused


def raise_balance(decision: Decision, amount_micros: int, adjustment_id: str | None = None) -> str:
    """The team holds a new unscoped lot that never expires, and debt is repaid; returns the lot's id.

    Raises: AdjustmentRefused without a reason; AmountOutOfRange; TooManyLots; AccountClosed.
    """
    require_open(decision.account)
    _require_reason(decision)
    terms = new_lot(decision, amount_micros, "raised", ANY_USE, None)
    account = decision.account
    decision.record(
        BalanceRaised(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            lot=terms,
            amount_micros=amount_micros,
            adjustment_id=adjustment_id,
            settled_after_micros=account.settled_micros + amount_micros,
            debt_after_micros=account.debt_micros,
        )
    )
    repay_debt(decision, decision.at)
    return terms.lot_id


def lower_balance(decision: Decision, amount_micros: int, adjustment_id: str | None = None) -> None:
    """The amount is drawn from unscoped lots in burn order.

    Raises: AdjustmentRefused without a reason, for no amount, or beyond what is available; AccountClosed.
    """
    require_open(decision.account)
    _require_reason(decision)
    pass_time(decision)
    account = decision.account
    available = lots.unscoped_micros(account, decision.at)
    if not 0 < amount_micros <= available:
        raise AdjustmentRefused(
            f"amount {format_credits(amount_micros)}: more than 0 and at most the {format_credits(available)} credits that "
            "unscoped lots have available would be right",
            field="amount",
        )
    decision.record(
        BalanceLowered(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            amount_micros=amount_micros,
            lines=lots.draw_unscoped(account, amount_micros, decision.at),
            adjustment_id=adjustment_id,
            settled_after_micros=account.settled_micros - amount_micros,
            debt_after_micros=account.debt_micros,
        )
    )


def _require_reason(decision: Decision) -> None:
    if not decision.reason:
        raise AdjustmentRefused("an adjustment needs a reason", field="reason")
