"""Time passes first: what is due on an account at an instant, in order, each as of its own instant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from domain.account import lots
from domain.account.calendar import LATE_GRACE as LATE_GRACE  # noqa: PLC0414 - asked for here, where it is used
from domain.account.closing import close_period, closes_at
from domain.account.decision import Decision, due_id
from domain.account.events import CreditsExpired, DebtRepaid, HoldExpired
from domain.account.state import Hold, Lot, TeamAccount
from domain.account.turning import age, turn_at, turn_period


class _Due(NamedTuple):
    """A due fact: its instant; at one instant hold expiry, breakage, turn, lots becoming effective, close; then age or id."""

    instant: datetime
    rank: int
    order: tuple[datetime | str, int]
    subject: Hold | Lot | None


def next_due_at(account: TeamAccount) -> datetime | None:
    """The next instant at which time alone changes the account."""
    if account.debt_micros or account.holds:
        return min((fact.instant for fact in _due(account)), default=None)
    ends = [end for lot in account.lots if (end := _end_of(lot)) is not None]
    instants = [min(ends) + LATE_GRACE] if ends else []
    if (turn := turn_at(account)) is not None:
        instants.append(turn)
    if (close := closes_at(account)) is not None:
        instants.append(close)
    return min(instants, default=None)


def pass_time(decision: Decision) -> None:
    """All that was due up to the decision's instant is recorded, earliest first; nothing is due before it any more."""
    # Lots and holds that a decision makes outlive its instant, so once time has passed in it, only debt makes anything due again.
    if decision.has_time_passed and not decision.account.debt_micros:
        return
    while fact := _first_due(decision.account, decision.at):
        _book(decision, fact)
    decision.has_time_passed = True


def repay_debt(decision: Decision, effective_at: datetime) -> None:
    """No idle credit stands beside debt: unscoped credit open at ``effective_at`` has repaid what it can."""
    account = decision.account
    if not account.debt_micros:
        return
    lines = lots.repaying(account, effective_at)
    amount = lots.total(lines)
    if amount:
        decision.record(
            DebtRepaid(
                recorded_at=decision.at,
                actor=decision.actor,
                correlation_id=decision.correlation_id,
                effective_at=effective_at,
                amount_micros=amount,
                lines=lines,
                settled_after_micros=account.settled_micros - amount,
                debt_after_micros=account.debt_micros - amount,
            )
        )


def _book(decision: Decision, fact: _Due) -> None:
    instant, subject = fact.instant, fact.subject
    if isinstance(subject, Hold):
        _expire_hold(decision, subject, instant)
    elif isinstance(subject, Lot) and fact.rank == _BREAKAGE:
        _book_breakage(decision, subject, instant)
        return
    elif fact.rank == _TURN:
        turn_period(decision, instant)
    elif fact.rank == _CLOSE:
        close_period(decision, instant)
        return
    repay_debt(decision, instant)


def _first_due(account: TeamAccount, at: datetime) -> _Due | None:
    """The earliest due fact up to ``at``."""
    if not _is_anything_due(account, at):
        return None
    due = [fact for fact in _due(account) if fact.instant <= at]
    return min(due, key=lambda fact: fact[:3], default=None)


def _is_anything_due(account: TeamAccount, at: datetime) -> bool:
    """False for nearly every charge, so it is asked before the facts are put in order."""
    if account.debt_micros:
        return True
    broken_since = at - LATE_GRACE
    for lot in account.lots:
        expires_at = lot.terms.expires_at
        if expires_at is not None and expires_at <= broken_since:
            return True
    for hold in account.holds:
        if hold.expires_at <= at:
            return True
    if account.books_end <= broken_since and (close := closes_at(account)) is not None and close <= at:
        return True
    turn = turn_at(account)
    return turn is not None and turn <= at


_EXPIRY, _BREAKAGE, _TURN, _EFFECTIVE, _CLOSE = range(5)


def _due(account: TeamAccount) -> Iterator[_Due]:
    for hold in account.holds:
        yield _Due(hold.expires_at, _EXPIRY, age(hold), hold)
    for lot in account.lots:
        breakage_at = breaks_at(lot)
        if breakage_at is not None:
            yield _Due(breakage_at, _BREAKAGE, (lot.terms.lot_id, 0), lot)
        # A lot that was effective before time last passed has repaid what it could, or had nothing to repay then.
        if (
            account.debt_micros
            and lots.is_unscoped(lot.terms)
            and lot.free_micros > 0
            and lot.terms.effective_at >= account.passed_at
        ):
            yield _Due(lot.terms.effective_at, _EFFECTIVE, (lot.terms.lot_id, 0), lot)
    turn = turn_at(account)
    if turn is not None:
        yield _Due(turn, _TURN, ("", 0), None)
    close = closes_at(account)
    if close is not None:
        yield _Due(close, _CLOSE, ("", 0), None)


def breaks_at(lot: Lot) -> datetime | None:
    """When what is left of the lot is booked as breakage: late grace after its expiry, or after the last hold on it.

    None while a hold is on it, while a chargeback withholds it, and for a lot that never expires.
    """
    end = _end_of(lot)
    return None if end is None else end + LATE_GRACE


def _end_of(lot: Lot) -> datetime | None:
    """The later of the lot's expiry and the end of the last hold on it; None where ``breaks_at`` is."""
    expires_at = lot.terms.expires_at
    if expires_at is None or lot.held_micros or lot.withheld_since is not None:
        return None
    if lot.held_until is not None and lot.held_until > expires_at:
        expires_at = lot.held_until
    return expires_at


def _expire_hold(decision: Decision, hold: Hold, instant: datetime) -> None:
    account = decision.account
    decision.record(
        HoldExpired(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            due_id=due_id("hold", f"{account.team_id} {hold.hold_id}", instant),
            effective_at=instant,
            hold_id=hold.hold_id,
            amount_micros=hold.held_micros,
            settled_after_micros=account.settled_micros,
            debt_after_micros=account.debt_micros,
        )
    )


def _book_breakage(decision: Decision, lot: Lot, instant: datetime) -> None:
    account = decision.account
    decision.record(
        CreditsExpired(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            due_id=due_id("breakage", f"{account.team_id} {lot.terms.lot_id}", instant),
            effective_at=instant,
            lot_id=lot.terms.lot_id,
            amount_micros=lot.remaining_micros,
            settled_after_micros=account.settled_micros - lot.remaining_micros,
            debt_after_micros=account.debt_micros,
        )
    )
