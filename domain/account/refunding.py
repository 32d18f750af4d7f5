"""Refunds: the lines of a charge given back, last line first, each repaying today's debt before the next returns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from domain.account import lots
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time, repay_debt
from domain.account.events import (
    CHARGES,
    Charge,
    ChargeRefunded,
    LotLine,
    LotTerms,
    RefundLine,
    RefundTarget,
    UsageWaived,
)
from domain.account.index import AccountIndex, IndexOverlay, Repayment
from domain.account.limiting import refunded_micros, window_moves
from domain.account.opening import require_open
from domain.account.state import OPEN_LOTS_MAX, published_terms
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import (
    AmountOutOfRange,
    Malformed,
    NothingToRefund,
    RefundExceedsCharge,
    TooManyLots,
    UnknownCharge,
)
from domain.times import instant_text

SUCCESSOR_LIFE = timedelta(days=7)
"""How long credit lives that a refund brings back to a lot already expired."""


def refund_charge(decision: Decision, charge_id: str, amount_micros: int | None, refund_id: str) -> int:
    """``amount_micros`` of the charge (None: all that is left) are given back; returns how much that was.

    Raises: UnknownCharge; NothingToRefund for usage that was waived; RefundExceedsCharge; AccountClosed; Malformed for 0;
    as ``require_room``.
    """
    require_open(decision.account)
    charge = require_charge(decision.index, charge_id)
    refunded = refunded_micros(decision.index, charge_id)
    left = charge.amount_micros - refunded
    amount = left if amount_micros is None else amount_micros
    if amount > left or not left:
        raise RefundExceedsCharge(
            f"charge {charge_id}: of {format_credits(charge.amount_micros)} credits charged {format_credits(refunded)} are "
            f"refunded already, at most {format_credits(left)} is left",
            charge_id=charge_id,
            left=format_credits(left),
        )
    if amount <= 0:
        raise Malformed(f"amount {format_credits(amount)}: a refund gives back more than 0", field="amount")
    require_room(decision, charge, amount)
    pass_time(decision)
    give_back(decision, charge, amount, refund_id)
    return amount


def require_room(decision: Decision, charge: Charge, amount_micros: int) -> None:
    """The account stays within its bounds when so much of the charge is given back; nothing is recorded.

    Raises: AmountOutOfRange; TooManyLots.
    """
    account = decision.account
    fits = account.settled_micros + amount_micros <= AMOUNT_MAX
    if fits and not charge.debt_micros and len(account.lots) + len(charge.lines) <= OPEN_LOTS_MAX:
        return
    # Which lots open again is only known by giving back; so that is tried, on a copy.
    trial = Decision(copy_of(account), decision.at, decision.actor, IndexOverlay(decision.index))
    pass_time(trial)
    give_back(trial, charge, amount_micros, "")
    if trial.account.settled_micros > AMOUNT_MAX:
        raise AmountOutOfRange(
            f"a refund of {format_credits(amount_micros)} would take the account beyond 2^62 micro-credits",
            field="amount",
        )
    if len(trial.account.lots) > max(OPEN_LOTS_MAX, len(account.lots)):
        raise TooManyLots(
            f"the refund would leave {len(trial.account.lots)} open lots, {OPEN_LOTS_MAX} are the most: "
            "let some burn or expire first"
        )


def give_back(decision: Decision, charge: Charge, amount_micros: int, refund_id: str) -> None:
    """The last ``amount_micros`` of the charge not refunded yet are back; debt is repaid after each line that allows it."""
    refunded = refunded_micros(decision.index, charge.charge_id)
    giving = _Giving(decision, charge, refunded, refund_id)
    for line in _last_lines(charge, refunded, amount_micros):
        match giving.end_of(line.lot_id):
            case "lost":
                giving.to_debt(line.amount_micros)
            case "voided":
                giving.to_nobody(line.lot_id, line.amount_micros)
            case _:
                giving.to_lot("lot", line.lot_id, line.amount_micros)
    giving.write()


def require_charge(index: AccountIndex, charge_id: str) -> Charge:
    """The charge of that id. Raises: UnknownCharge; NothingToRefund for usage that was waived."""
    on_file = index.usage(charge_id)
    if on_file is None:
        raise UnknownCharge(f"charge {charge_id[:64]!r} is not one of this team's", charge_id=charge_id[:64])
    if isinstance(on_file.event, UsageWaived):
        raise NothingToRefund(
            f"usage {charge_id} was waived ({on_file.event.waiver}): nothing was charged", charge_id=charge_id
        )
    assert isinstance(on_file.event, CHARGES), "usage on file is charged or waived"
    return on_file.event


def _last_lines(charge: Charge, refunded_micros: int, amount_micros: int) -> Iterator[LotLine]:
    """The part of the charge's lines, from the last, that this refund gives back; the debt line has no lot id."""
    skip, left = refunded_micros, amount_micros
    for line in reversed([*charge.lines, LotLine("", charge.debt_micros)]):
        open_micros = max(0, line.amount_micros - skip)
        skip = max(0, skip - line.amount_micros)
        given = min(open_micros, left)
        if given:
            yield LotLine(line.lot_id, given)
            left -= given


class _Giving:
    """Collects refund lines into as few events as repayments between them allow."""

    def __init__(self, decision: Decision, charge: Charge, refunded_micros: int, refund_id: str) -> None:
        self._decision = decision
        self._charge = charge
        self._refunded_micros = refunded_micros
        self._refund_id = refund_id
        self._lines: list[RefundLine] = []
        self._lots: dict[str, LotTerms] = {}

    def end_of(self, lot_id: str) -> Literal["lost", "voided"] | None:
        """Whether the lot's line was lost to a chargeback, or voided; what no lot paid is treated as what a lost one paid."""
        if not lot_id:
            return "lost"
        entry = self._decision.index.entry("line", self._terms(lot_id).origin_lot_id)
        return msgspec.json.decode(entry, type=Literal["lost", "voided"]) if entry else None

    def to_nobody(self, lot_id: str, amount_micros: int, key: str = "", left_micros: int = 0) -> None:
        """A line on a voided grant is voided again."""
        self._lines.append(RefundLine("voided", amount_micros, "", lot_id, key, left_micros))

    def to_debt(self, amount_micros: int) -> None:
        """A debt line lowers today's debt first, then returns to the lots that repaid debt, latest repayment first."""
        account = self._decision.account
        lowered = min(amount_micros, account.debt_micros - self._lowered())
        if lowered:
            self._lines.append(RefundLine("debt", lowered))
        left = amount_micros - lowered
        if left:
            self._to_repayments(left)

    def _to_repayments(self, amount_micros: int) -> None:
        """Repayments by a lost line are passed over: what they repaid became debt again when it was lost."""
        left = amount_micros
        # What lines of this very event have taken is not in the index before the event is written.
        taken = {line.repayment_key: line.repayment_left_micros for line in self._lines}
        for key, entry in self._decision.index.latest("repayment"):
            repayment = msgspec.json.decode(entry, type=Repayment)
            if key in taken:
                repayment = Repayment(repayment.lot_id, taken[key])
                if not repayment.left_micros:
                    continue
            end = self.end_of(repayment.lot_id)
            if end == "lost":
                continue
            given = min(left, repayment.left_micros)
            if end == "voided":
                self.to_nobody(repayment.lot_id, given, key, repayment.left_micros - given)
            else:
                self.to_lot("repayment", repayment.lot_id, given, key, repayment.left_micros - given)
            left -= given
            if not left:
                return
        raise AssertionError(f"{left} micro-credits of a debt line were never repaid")

    def to_lot(
        self,
        target: RefundTarget,
        lot_id: str,
        amount_micros: int,
        repayment_key: str = "",
        repayment_left_micros: int = 0,
    ) -> None:
        """The lot that was drawn, or its successor if that has expired, receives the amount and repays today's debt."""
        receiver = self._receiver(lot_id)
        self._lines.append(
            RefundLine(
                target,
                amount_micros,
                receiver.lot_id,
                lot_id,
                repayment_key,
                repayment_left_micros,
            )
        )
        has_debt = self._decision.account.debt_micros - self._lowered()
        if has_debt and lots.is_unscoped(receiver) and self._stopped_at(receiver) is None:
            self.write()
            repay_debt(self._decision, self._decision.at)

    def write(self) -> None:
        """The lines collected so far are one event."""
        if not self._lines:
            return
        decision, lines, charge = self._decision, self._lines, self._charge
        amount = sum(line.amount_micros for line in lines)
        to_lots = sum(line.amount_micros for line in lines if line.target in {"lot", "repayment"})
        lowered = self._lowered()
        self._refunded_micros += amount
        moves = window_moves(
            decision.account,
            decision.index,
            charge.occurred_at,
            -amount,
            charge.member,
            charge.project,
            charge.action,
        )
        decision.record(
            ChargeRefunded(
                recorded_at=decision.at,
                actor=decision.actor,
                correlation_id=decision.correlation_id,
                reason=decision.reason,
                refund_id=self._refund_id,
                charge_id=charge.charge_id,
                amount_micros=amount,
                lines=lines,
                lots=list(self._lots.values()),
                refunded_after_micros=self._refunded_micros,
                windows=moves,
                settled_after_micros=decision.account.settled_micros + to_lots,
                debt_after_micros=decision.account.debt_micros - lowered,
            )
        )
        self._lines, self._lots = [], {}

    def _lowered(self) -> int:
        return sum(line.amount_micros for line in self._lines if line.target == "debt")

    def _receiver(self, lot_id: str) -> LotTerms:
        """The terms of the lot that takes the credit; noted for opening unless it is open."""
        terms = self._terms(lot_id)
        at = self._decision.at
        if terms.expires_at is not None and terms.expires_at <= (self._stopped_at(terms) or at):
            terms = _successor(terms, at)
            terms = self._known(terms.lot_id) or terms
        if lots.find(self._decision.account, terms.lot_id) is None:
            self._lots.setdefault(terms.lot_id, terms)
        return terms

    def _stopped_at(self, terms: LotTerms) -> datetime | None:
        """Since when the expiry of the lot stands still, because a chargeback withholds its line."""
        for chargeback in self._decision.account.chargebacks.values():
            if chargeback.origin_lot_id == terms.origin_lot_id:
                return chargeback.opened_at
        return None

    def _terms(self, lot_id: str) -> LotTerms:
        terms = self._known(lot_id)
        assert terms is not None, f"{lot_id} is on no file"
        return terms

    def _known(self, lot_id: str) -> LotTerms | None:
        lot = lots.find(self._decision.account, lot_id)
        if lot is not None:
            return lot.terms
        if lot_id in self._lots:
            return self._lots[lot_id]
        entry = self._decision.index.entry("lot", lot_id)
        return msgspec.json.decode(entry, type=LotTerms) if entry else None


def _successor(terms: LotTerms, at: datetime) -> LotTerms:
    """The lot that takes over from an expired one: same source, origin, scope, priority, cost basis; one per lot and instant."""
    return msgspec.structs.replace(
        published_terms(terms),
        lot_id=f"{terms.lot_id}@{instant_text(at)}",
        granted_at=at,
        effective_at=at,
        expires_at=at + SUCCESSOR_LIFE,
        rolls_over=False,
    )
