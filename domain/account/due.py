"""Time passes first: what is due on an account at an instant, in order, each as of its own instant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid5

from domain.account import lots
from domain.account.decision import ACCOUNT_NAMESPACE, Decision
from domain.account.events import CreditsExpired, DebtRepaid
from domain.account.state import Lot, TeamAccount
from domain.times import instant_text

LATE_GRACE = timedelta(hours=24)
"""How long after an instant late usage may still change what that instant books."""


def next_due_at(account: TeamAccount) -> datetime | None:
    """The next instant at which time alone changes the account: a breakage, or a lot that will repay debt."""
    return min((instant for instant, _ in _due(account)), default=None)


def pass_time(decision: Decision) -> None:
    """All that was due up to the decision's instant is recorded, earliest first; nothing is due before it any more."""
    # Lots that a decision issues outlive its instant, so once time has passed in it, only debt makes anything due again.
    if decision.has_time_passed and not decision.account.debt_micros:
        return
    while due := _first_due(decision.account, decision.at):
        instant, lot = due
        if _breakage_at(lot) == instant:
            _book_breakage(decision, lot, instant)
        else:
            repay_debt(decision, instant)
    decision.has_time_passed = True


def repay_debt(decision: Decision, effective_at: datetime) -> None:
    """No idle credit stands beside debt: unscoped credit open at ``effective_at`` has repaid what it can."""
    account = decision.account
    if not account.debt_micros:
        return
    lines = lots.repaying(account, effective_at)
    amount = sum(line.amount_micros for line in lines)
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


def due_id(kind: str, subject: str, instant: datetime) -> str:
    """Identity of a due fact, 32 hex digits: ``uuid5`` of kind, subject and due instant. Whoever comes first books it."""
    return uuid5(ACCOUNT_NAMESPACE, f"{kind} {subject} {instant_text(instant)}").hex


def _first_due(account: TeamAccount, at: datetime) -> tuple[datetime, Lot] | None:
    """The earliest due fact up to ``at``; at one instant breakage comes before lots becoming effective."""
    if not _is_anything_due(account, at):
        return None
    due = [(instant, lot) for instant, lot in _due(account) if instant <= at]
    return min(
        due, key=lambda fact: (fact[0], _breakage_at(fact[1]) != fact[0], fact[1].terms.lot_id), default=None
    )


def _is_anything_due(account: TeamAccount, at: datetime) -> bool:
    """False for nearly every charge, so it is asked before the facts are put in order."""
    if account.debt_micros:
        return True
    broken_since = at - LATE_GRACE
    for lot in account.lots:
        expires_at = lot.terms.expires_at
        if expires_at is not None and expires_at <= broken_since:
            return True
    return False


def _due(account: TeamAccount) -> Iterator[tuple[datetime, Lot]]:
    for lot in account.lots:
        breakage_at = _breakage_at(lot)
        if breakage_at is not None:
            yield breakage_at, lot
        # A lot that was effective before time last passed has repaid what it could, or had nothing to repay then.
        if (
            account.debt_micros
            and lots.is_unscoped(lot.terms)
            and lot.terms.effective_at >= account.passed_at
        ):
            yield lot.terms.effective_at, lot


def _breakage_at(lot: Lot) -> datetime | None:
    expires_at = lot.terms.expires_at
    return None if expires_at is None else expires_at + LATE_GRACE


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
