"""Plans of a team: assigned now or at the turn, with the whole allowance at first and the difference for an upgrade."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from domain.account.calendar import period_at, zone_at
from domain.account.decision import Decision
from domain.account.due import pass_time, repay_debt
from domain.account.events import PlanAssigned, PlanTerms
from domain.account.opening import require_active
from domain.account.turning import grant_allowance, set_plan_limits
from domain.errors import PlanChangeRefused


def assign_plan(decision: Decision, plan: PlanTerms, takes_effect: Literal["now", "turn"]) -> datetime:
    """The team has the plan from now, or from the turn of its running period; returns from when.

    A first plan taken now brings its whole allowance for the rest of the period; an upgrade, whose allowance is not less, brings
    the difference by remaining days, rounded down to a micro-credit. Source: design, "Plans".
    Raises: PlanChangeRefused for a downgrade now, or the plan that the team has; AccountSuspended; AccountClosed.
    """
    require_active(decision.account)
    pass_time(decision)
    account, at = decision.account, decision.at
    before = account.plan
    period = period_at(account, decision.index, at)
    _check(before, plan, takes_effect, account.pending_plan is not None)
    effective_at = at if takes_effect == "now" else account.period_end or period[1]
    decision.record(
        PlanAssigned(
            recorded_at=at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            plan=plan,
            effective_at=effective_at,
        )
    )
    if takes_effect == "now":
        set_plan_limits(decision, before, plan, at)
        amount = plan.allowance_micros
        if before is not None:
            amount = _difference(decision, plan.allowance_micros - before.allowance_micros, period)
        if before is None or amount:
            grant_allowance(decision, plan, amount, at, period, None)
            repay_debt(decision, at)
    return effective_at


def _check(before: PlanTerms | None, plan: PlanTerms, takes_effect: str, is_another_pending: bool) -> None:
    if before is None:
        return
    is_same = (before.plan_id, before.version) == (plan.plan_id, plan.version)
    if is_same and (takes_effect == "now" or not is_another_pending):
        raise PlanChangeRefused(
            f"plan {plan.plan_id} version {plan.version} is the team's already", plan_id=plan.plan_id
        )
    if takes_effect == "now" and plan.allowance_micros < before.allowance_micros:
        raise PlanChangeRefused(
            f"plan {plan.plan_id} has a smaller allowance than {before.plan_id}: a downgrade takes effect at the turn",
            plan_id=plan.plan_id,
            takes_effect="turn",
        )


def _difference(decision: Decision, difference_micros: int, period: tuple[datetime, datetime]) -> int:
    """The part of the allowance difference for the days of the period that are left, today included, by the team's calendar."""
    zone = ZoneInfo(zone_at(decision.account, decision.index, decision.at))
    start, today, end = (at.astimezone(zone).date() for at in (period[0], decision.at, period[1]))
    return difference_micros * (end - today).days // (end - start).days
