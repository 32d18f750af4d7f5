"""The turn of a plan's period: what is left rolls over up to the cap, a plan that waited begins, the allowance comes."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.account import lots
from domain.account.calendar import period_at
from domain.account.decision import Decision, due_id
from domain.account.events import AllowanceGranted, CreditsRolledOver, LotTerms, PlanTerms, RolledLine
from domain.account.limiting import put_limit, take_limit
from domain.account.state import Hold, Lot, TeamAccount, published_terms
from domain.amounts import AMOUNT_MAX
from domain.times import instant_text

ALLOWANCE_PRIORITY = 20


def turn_at(account: TeamAccount) -> datetime | None:
    """The instant of the next turn: the end of the plan's period, or the beginning of a first plan that waits for it."""
    if account.status == "closed":
        return None
    if account.plan is not None:
        return account.period_end
    return account.pending_plan.effective_at if account.pending_plan is not None else None


def turn_period(decision: Decision, instant: datetime) -> None:
    """The period turned at ``instant``: rollover by the ending plan's cap, then the new period's plan and its allowance."""
    account = decision.account
    start, end = period_at(account, decision.index, instant)
    _roll_over(decision, instant, end)
    ending, pending = account.plan, account.pending_plan
    plan = pending.plan if pending is not None and pending.effective_at <= instant else ending
    assert plan is not None, "only a plan's period turns"
    if plan is not ending:
        set_plan_limits(decision, ending, plan, instant)
    key = due_id("turn", account.team_id, instant)
    grant_allowance(decision, plan, plan.allowance_micros, instant, (start, end), key)


def set_plan_limits(
    decision: Decision, ending: PlanTerms | None, plan: PlanTerms, effective_at: datetime
) -> None:
    """The limits of the plan hold from ``effective_at``; those of the plan that ends are gone."""
    kept = {terms.limit_id for terms in plan.limits}
    for limit in list(decision.account.limits):
        if limit.plan_id is not None and limit.terms.limit_id not in kept:
            take_limit(decision, limit.terms.limit_id, effective_at)
    for terms in plan.limits:
        put_limit(decision, terms, effective_at, plan.plan_id)


def grant_allowance(
    decision: Decision,
    plan: PlanTerms,
    amount_micros: int,
    effective_at: datetime,
    period: tuple[datetime, datetime],
    due: str | None,
) -> None:
    """The period of the plan runs, and so much of its allowance is a new lot that expires with it; no lot for nothing."""
    account = decision.account
    # What the account has no room for is not granted: a due fact cannot be refused.
    amount = min(amount_micros, AMOUNT_MAX - account.settled_micros)
    number = account.version + 1
    terms = LotTerms(
        lot_id=f"lot-{number}",
        number=number,
        source="included",
        origin_lot_id=f"lot-{number}",
        granted_at=effective_at,
        effective_at=effective_at,
        expires_at=period[1],
        priority=ALLOWANCE_PRIORITY,
        rolls_over=True,
    )
    decision.record(
        AllowanceGranted(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            due_id=due,
            effective_at=effective_at,
            plan_id=plan.plan_id,
            plan_version=plan.version,
            period_start=period[0],
            period_end=period[1],
            amount_micros=amount,
            lot=terms if amount else None,
            settled_after_micros=account.settled_micros + amount,
            debt_after_micros=account.debt_micros,
        )
    )


def _roll_over(decision: Decision, instant: datetime, next_turn: datetime) -> None:
    account = decision.account
    cap = account.plan.rollover_cap_micros if account.plan is not None else 0
    ending = [
        lot
        for lot in account.lots
        if lot.terms.rolls_over and lot.terms.expires_at == instant and lot.withheld_since is None
    ]
    lines = _rolled_lines(account, ending, cap, instant)
    if not lines:
        return
    moved = {line.lot_id for line in lines}
    decision.record(
        CreditsRolledOver(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            due_id=due_id("rollover", account.team_id, instant),
            effective_at=instant,
            amount_micros=sum(line.amount_micros for line in lines),
            lots=[_successor(lot, instant, next_turn) for lot in ending if lot.terms.lot_id in moved],
            lines=lines,
            settled_after_micros=account.settled_micros,
            debt_after_micros=account.debt_micros,
        )
    )


def _rolled_lines(account: TeamAccount, ending: list[Lot], cap: int, instant: datetime) -> list[RolledLine]:
    """Held credit first, that of the oldest hold first, in burn order; then free credit, what burns last first."""
    lines: list[RolledLine] = []
    room = cap
    rolling = {lot.terms.lot_id for lot in ending}

    def move(lot_id: str, amount: int, hold_id: str = "") -> None:
        nonlocal room
        moved = min(amount, room)
        if moved > 0:
            lines.append(RolledLine(lot_id, _successor_id(lot_id, instant), moved, hold_id))
            room -= moved

    for hold in sorted(account.holds, key=age):
        held = [line for line in hold.lines if line.lot_id in rolling]
        for line in lots.from_lines(account, held, lots.total(held)):
            move(line.lot_id, line.amount_micros, hold.hold_id)
    for lot in reversed(ending):
        move(lot.terms.lot_id, lot.free_micros)
    return lines


def age(hold: Hold) -> tuple[datetime, int]:
    """The order of holds by age: when made, then the version that made them."""
    return hold.made_at, int(hold.hold_id.rpartition("-")[2])


def _successor_id(lot_id: str, instant: datetime) -> str:
    return f"{lot_id}~{instant_text(instant)}"


def _successor(lot: Lot, instant: datetime, next_turn: datetime) -> LotTerms:
    """The lot in which rolled credit goes on: same source, origin, effective instant; it does not roll again."""
    return msgspec.structs.replace(
        published_terms(lot.terms),
        lot_id=_successor_id(lot.terms.lot_id, instant),
        granted_at=instant,
        expires_at=next_turn,
        rolls_over=False,
    )
