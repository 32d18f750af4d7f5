"""Chargebacks: a bank takes a top-up back; what is left is withheld, then reinstated when won, or voided when lost."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.account import lots
from domain.account.decision import Decision
from domain.account.due import pass_time, repay_debt
from domain.account.events import ChargebackLost, ChargebackOpened, ChargebackWon, LotTerms
from domain.account.funding import line_held, line_left, require_top_up
from domain.account.index import AccountIndex, TopUp
from domain.account.opening import require_open
from domain.account.state import Chargeback
from domain.errors import ChargebackRefused, PaymentNotSettled


def open_chargeback(decision: Decision, payment_reference: str, record_key: str | None = None) -> int:
    """What is left of the top-up's lot and successors is withheld; returns how much that is. Holds keep theirs.

    Raises: UnknownPayment; PaymentNotSettled; ChargebackRefused when one is open, won or lost already; AccountClosed.
    """
    require_open(decision.account)
    top_up = require_top_up(decision, payment_reference)
    if top_up.status != "settled" or top_up.lot_id is None:
        raise PaymentNotSettled(
            f"payment {payment_reference!r} is {top_up.status}: no credit came from it", status=top_up.status
        )
    before = decision.index.entry("chargeback", payment_reference)
    if before is not None:
        raise ChargebackRefused(
            f"the chargeback of payment {payment_reference!r} is {msgspec.json.decode(before)} already",
            payment_reference=payment_reference,
        )
    pass_time(decision)
    withheld = sum(
        lot.remaining_micros - lot.held_micros
        for lot in decision.account.lots
        if lot.terms.origin_lot_id == top_up.lot_id
    )
    decision.record(
        ChargebackOpened(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            payment_reference=payment_reference,
            origin_lot_id=top_up.lot_id,
            withheld_micros=withheld,
            record_key=record_key,
        )
    )
    return withheld


def win_chargeback(decision: Decision, payment_reference: str, record_key: str | None = None) -> None:
    """What was withheld is back exactly, the time withheld added to each expiry; debt is repaid by it.

    Raises: UnknownPayment; ChargebackRefused when none is open; AccountClosed.
    """
    chargeback, _ = _require_open_chargeback(decision, payment_reference)
    pass_time(decision)
    account, at = decision.account, decision.at
    expiries: dict[str, datetime] = {}
    for lot in account.lots:
        terms = lot.terms
        if terms.origin_lot_id == chargeback.origin_lot_id and terms.expires_at is not None:
            assert lot.withheld_since is not None, f"{terms.lot_id} is not withheld"
            expiries[terms.lot_id] = terms.expires_at + (at - lot.withheld_since)
    decision.record(
        ChargebackWon(
            recorded_at=at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            payment_reference=payment_reference,
            origin_lot_id=chargeback.origin_lot_id,
            expiries=expiries,
            closed_lots=_closed_lots(decision, chargeback, at),
            record_key=record_key,
        )
    )
    repay_debt(decision, at)


def lose_chargeback(decision: Decision, payment_reference: str, record_key: str | None = None) -> None:
    """What is left of the line is voided and cut from holds; what had been drawn from it is debt, repaid by other credit.

    Raises: UnknownPayment; ChargebackRefused when none is open; AccountClosed.
    """
    chargeback, top_up = _require_open_chargeback(decision, payment_reference)
    pass_time(decision)
    account, origin = decision.account, chargeback.origin_lot_id
    lines = line_left(account, origin)
    left = lots.total(lines)
    drawn = top_up.amount_micros - left - _broken_micros(decision.index, origin)
    decision.record(
        ChargebackLost(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            payment_reference=payment_reference,
            origin_lot_id=origin,
            voided_micros=left,
            drawn_micros=drawn,
            lines=lines,
            holds=line_held(account, origin),
            record_key=record_key,
            settled_after_micros=account.settled_micros - left,
            debt_after_micros=account.debt_micros + drawn,
        )
    )
    repay_debt(decision, decision.at)


def _require_open_chargeback(decision: Decision, payment_reference: str) -> tuple[Chargeback, TopUp]:
    require_open(decision.account)
    top_up = require_top_up(decision, payment_reference)
    chargeback = decision.account.chargebacks.get(payment_reference)
    if chargeback is None:
        before = decision.index.entry("chargeback", payment_reference)
        state = "none was opened" if before is None else f"it is {msgspec.json.decode(before)} already"
        raise ChargebackRefused(
            f"no chargeback of payment {payment_reference!r} is open: {state}",
            payment_reference=payment_reference,
        )
    return chargeback, top_up


def _closed_lots(decision: Decision, chargeback: Chargeback, at: datetime) -> list[LotTerms]:
    """The lots of the line with nothing left that had not expired when it opened, the time withheld added, for later refunds."""
    closed: list[LotTerms] = []
    for lot_id, entry in decision.index.latest("lot", chargeback.origin_lot_id):
        terms = msgspec.json.decode(entry, type=LotTerms)
        expires_at = terms.expires_at
        is_of_line = terms.origin_lot_id == chargeback.origin_lot_id
        if not is_of_line or expires_at is None or lots.find(decision.account, lot_id) is not None:
            continue
        stood_since = max(chargeback.opened_at, terms.granted_at)
        if expires_at > stood_since:
            closed.append(msgspec.structs.replace(terms, expires_at=expires_at + (at - stood_since)))
    return closed


def _broken_micros(index: AccountIndex, origin_lot_id: str) -> int:
    return sum(int(entry) for _, entry in index.latest("breakage", f"{origin_lot_id} "))
