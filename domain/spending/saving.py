"""A spending plan as it is saved, and what it is compared with later: what then really happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.account.index import AccountIndex
from domain.account.state import TeamAccount
from domain.catalogue import Catalogue
from domain.spending.learning import DaySpent
from domain.spending.planning import Course, plan_spending
from domain.team.state import Team
from domain.volumes import PlannedPath, SavedPlan, VolumeLine


class ActualLine(msgspec.Struct, frozen=True, kw_only=True):
    """What was planned and used of one action so far; ``is_planned`` is False for one that the plan did not name."""

    action: str
    is_planned: bool
    low: int
    expected: int
    high: int
    uses: int
    net_micros: int


class PlanActual(msgspec.Struct, frozen=True, kw_only=True):
    """A plan against what happened from its first day to ``until``.

    ``due_micros`` is the part of the expected cost for the time that has passed. ``is_within``: what was spent lies between
    the parts of low and high.
    """

    plan: SavedPlan
    until: datetime
    is_over: bool
    spent_micros: int
    due_micros: int
    is_within: bool
    lines: list[ActualLine]


def saved_plan(
    account: TeamAccount,
    team: Team,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    *,
    plan_id: str,
    audience: str,
    lines: Sequence[VolumeLine],
    days: int,
) -> SavedPlan:
    """The plan with what its three paths come to. Raises: as ``plan_spending``."""
    plan = plan_spending(account, team, catalogue, index, at, lines, days)
    return SavedPlan(
        plan_id=plan_id,
        audience=audience,
        starts_at=plan.starts_at,
        ends_at=plan.ends_at,
        account_version=plan.version,
        lines=plan.lines,
        low=_path(plan.low),
        expected=_path(plan.expected),
        high=_path(plan.high),
        is_learned=any(line.amount_micros is not None for line in lines),
    )


def _path(course: Course) -> PlannedPath:
    return PlannedPath(
        cost_micros=course.cost_micros, run_out_at=course.run_out_at, top_up_micros=course.top_up_micros
    )


def actual_of(plan: SavedPlan, spent: Sequence[DaySpent], now: datetime) -> PlanActual:
    """The plan against what was spent on the days since it starts; its first day counts whole, as spending is kept by day."""
    until = min(now, plan.ends_at)
    passed, length = until - plan.starts_at, plan.ends_at - plan.starts_at
    net = sum(each.net_micros for each in spent)

    def due(micros: int) -> int:
        return (
            micros * (passed.days * 86_400 + passed.seconds) // max(1, length.days * 86_400 + length.seconds)
        )

    actions = dict.fromkeys([*(line.action for line in plan.lines), *(each.action for each in spent)])
    return PlanActual(
        plan=plan,
        until=until,
        is_over=now >= plan.ends_at,
        spent_micros=net,
        due_micros=due(plan.expected.cost_micros),
        is_within=due(plan.low.cost_micros) <= net <= due(plan.high.cost_micros),
        lines=[_line(action, plan, spent) for action in actions],
    )


def _line(action: str, plan: SavedPlan, spent: Sequence[DaySpent]) -> ActualLine:
    planned = [line for line in plan.lines if line.action == action]
    used = [each for each in spent if each.action == action]
    return ActualLine(
        action=action,
        is_planned=bool(planned),
        low=sum(line.low for line in planned),
        expected=sum(line.expected for line in planned),
        high=sum(line.high for line in planned),
        uses=sum(each.uses for each in used),
        net_micros=sum(each.net_micros for each in used),
    )
