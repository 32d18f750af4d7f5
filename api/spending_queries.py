"""Questions about use that is planned and credits that were spent, answered once for HTTP and for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple, TypeVar, get_args

from api.answers_limits import LimitAnswer
from api.answers_spending import (
    CheckAnswer,
    CourseAnswer,
    EstimatesAnswer,
    ForecastAnswer,
    MemberMayAnswer,
    OpenInvoiceAnswer,
    PlanActualAnswer,
    PreflightAnswer,
    RecentChargeAnswer,
    ReviewAnswer,
    SavedPlanAnswer,
    SavedPlansAnswer,
    SpendingAnswer,
    SpendingPlanAnswer,
    SpentAnswer,
    UseEstimateAnswer,
    VolumeAnswer,
)
from api.errors import UnknownSpendingPlan
from api.index_reads import computed
from api.moments import Moments, Standing, unknown_team
from api.ports import AccountReads, CatalogueReads, StatementReads
from domain.account.estimating import Mode, PlannedUse, estimate_uses
from domain.account.index import AccountIndex
from domain.account.lots import unscoped_micros
from domain.account.state import TeamAccount
from domain.catalogue import Catalogue
from domain.errors import Malformed
from domain.spending.forecasting import Pool, forecast, learn_pool
from domain.spending.learning import HISTORY_DAYS, DaySpent, Learned, by_day, learn_volumes
from domain.spending.planning import SpendingPlan, plan_spending
from domain.spending.preflight import PlannedTask, Preflight, preflight
from domain.spending.review import Review, review
from domain.spending.saving import actual_of
from domain.team.state import Team
from domain.volumes import VolumeLine
from domain.zones import shown, zone_named
from projections.limits import LimitBalance, limits_as_booked
from projections.spending import SpendingRow, SpendingView
from projections.statement import StatementFilter

FORECAST_DAYS = 30
SHOWN_DAYS = 28
SPAN_DAYS_MAX = 366
ROWS_MAX = 5_000
RECENT_CHARGES = 10

Part = Literal["day", "action", "member", "project", "work"]
PARTS: tuple[Part, ...] = get_args(Part)
T = TypeVar("T")


class Span(NamedTuple):
    """Days of spending, start included, end excluded; None: the last four weeks, up to and with today."""

    since: date | None = None
    until: date | None = None
    by: Sequence[Part] = ("day", "action")


class SpendingQueries:
    """Reads of one team's planned and past spending. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(
        self,
        accounts: AccountReads,
        catalogue: CatalogueReads,
        spending: SpendingView,
        statements: StatementReads,
        wait_seconds: float,
    ) -> None:
        self._accounts = accounts
        self._catalogue = catalogue
        self._spending = spending
        self._statements = statements
        self._moments = Moments(accounts, wait_seconds)

    async def estimates(
        self, team_id: str, uses: Sequence[PlannedUse], mode: Mode = "add", min_version: int | None = None
    ) -> EstimatesAnswer:
        """What uses would cost, one after the other. Raises: UnknownAction, UnknownPrice, PriceOutOfRange, AccountClosed."""
        standing = await self._standing(team_id, min_version)
        catalogue = await self._current()
        told = await self._apart(
            standing, lambda account, index: estimate_uses(account, catalogue, index, standing.at, uses, mode)
        )
        return EstimatesAnswer(
            **standing.place(),
            mode=told.mode,
            amount=told.amount_micros,
            debt=told.debt_micros,
            data=[UseEstimateAnswer.of(use) for use in told.uses],
        )

    async def preflight(
        self,
        team_id: str,
        tasks: Sequence[PlannedTask],
        member: str | None = None,
        min_version: int | None = None,
    ) -> PreflightAnswer:
        """May these tasks run now?"""
        standing = await self._standing(team_id, min_version)
        told = await self._preflight(standing, tasks, member)
        return PreflightAnswer(
            **standing.place(),
            passes=told.passes,
            amount=told.estimates.amount_micros if told.estimates else None,
            checks=[CheckAnswer.of(check) for check in told.checks],
        )

    async def spending(self, team_id: str, span: Span) -> SpendingAnswer:
        """What was spent. Raises: Malformed for days that are none, or for too many rows."""
        standing = await self._standing(team_id)
        zone, today = self._today(standing)
        for day in (span.since, span.until):
            if day is not None and not 1900 <= day.year < 9000:
                raise Malformed(f"{day}: a day of the years 1900 to 8999 would be right", field="since")
        until = span.until or today + timedelta(1)
        since = span.since or until - timedelta(SHOWN_DAYS)
        if not timedelta(0) < until - since <= timedelta(SPAN_DAYS_MAX):
            raise Malformed(
                f"since {since}, until {until}: 1 to {SPAN_DAYS_MAX} days would be right", field="since"
            )
        page = await asyncio.to_thread(self._spending.spent, team_id, since, until)
        history = await self._history(team_id, today)
        pool = await self._pool(team_id, today, FORECAST_DAYS)
        told = forecast(by_day(history, today), FORECAST_DAYS, pool)
        shown_rows = _grouped(page.rows, span.by)
        if len(shown_rows) > ROWS_MAX:
            raise Malformed(
                f"{len(shown_rows)} rows: ask for fewer days or parts, at most {ROWS_MAX} are told",
                field="by",
            )
        return SpendingAnswer(
            **(standing.place() | {"position": page.position}),
            zone=zone,
            since=since,
            until=until,
            charged=sum(row.charged_micros for row in page.rows),
            refunded=sum(row.refunded_micros for row in page.rows),
            net=sum(row.net_micros for row in page.rows),
            burn_rate=told.rate_micros,
            forecast=ForecastAnswer.of(told, FORECAST_DAYS),
            data=shown_rows,
        )

    async def plan(self, team_id: str, lines: Sequence[VolumeLine], days: int) -> SpendingPlanAnswer:
        """What volumes come to; without any, those that the past teaches. Raises: Malformed; as ``estimates``."""
        standing = await self._standing(team_id)
        learned: Learned | None = None
        if not lines:
            _, today = self._today(standing)
            pool = await self._pool(team_id, today, days)
            learned = learn_volumes(await self._history(team_id, today), today, days, pool)
            lines = learned.lines
            if not lines:
                raise Malformed(
                    "volumes are missing, and the team has spent nothing of late to learn them from",
                    field="volumes",
                )
        team, catalogue = await self._team(team_id), await self._current()
        told = await self._apart(
            standing,
            lambda account, index: plan_spending(account, team, catalogue, index, standing.at, lines, days),
        )
        return _plan_answer(standing, told, learned, days)

    async def saved_plans(self, team_id: str) -> SavedPlansAnswer:
        """The newest plans that were saved."""
        standing = await self._standing(team_id)
        team = await self._team(team_id)
        return SavedPlansAnswer(
            **standing.place(), data=[SavedPlanAnswer.of(plan) for plan in team.spending_plans.values()]
        )

    async def actual(self, team_id: str, plan_id: str) -> PlanActualAnswer:
        """A saved plan against what came. Raises: UnknownSpendingPlan."""
        standing = await self._standing(team_id)
        plan = (await self._team(team_id)).spending_plans.get(plan_id)
        if plan is None:
            raise UnknownSpendingPlan(
                f"team {team_id!r} has no plan {plan_id[:80]!r} among the newest that were saved",
                plan_id=plan_id[:80],
            )
        zone, _ = self._today(standing)
        first, last = (shown(at, zone_named(zone)).date() for at in (plan.starts_at, plan.ends_at))
        page = await asyncio.to_thread(self._spending.spent, team_id, first, max(last, first + timedelta(1)))
        told = actual_of(plan, _spent(page.rows), standing.at)
        return PlanActualAnswer.told(standing.place() | {"position": page.position}, told)

    async def review(
        self, team_id: str, next_use: PlannedUse | None = None, member: str | None = None
    ) -> ReviewAnswer:
        """May I hand this over?"""
        standing = await self._standing(team_id)
        team, catalogue = await self._team(team_id), await self._current()

        def tell(account: TeamAccount, index: AccountIndex) -> tuple[Review, list[LimitBalance]]:
            told = review(account, team, catalogue, index, standing.at, next_use, member)
            return told, limits_as_booked(told.account, index, told.at)

        told, limits = await self._apart(standing, tell)
        near = {limit.terms.limit_id for limit in told.limits if limit.is_near}
        estimates = told.next_use.estimates if told.next_use is not None else None
        return ReviewAnswer(
            **standing.place(),
            ready=told.passes,
            checks=[CheckAnswer.of(check) for check in told.checks],
            available=unscoped_micros(told.account, told.at),
            debt=told.account.debt_micros,
            charges=await self._charges(team_id),
            limits_near=[LimitAnswer.of(limit) for limit in limits if limit.limit_id in near],
            open_invoices=[OpenInvoiceAnswer.of(invoice) for invoice in told.open_invoices],
            members=[
                MemberMayAnswer(member=each.member, role=each.role, may=list(each.may))
                for each in told.members
            ],
            next_use=UseEstimateAnswer.of(estimates.uses[0]) if estimates is not None else None,
        )

    # --- parts ---

    async def _standing(self, team_id: str, min_version: int | None = None) -> Standing:
        found = await self._moments.found(team_id, min_version)
        account = found.account
        return Standing(account, max(found.now, account.recorded_at), found.position, account.version)

    async def _current(self) -> Catalogue:
        return await asyncio.to_thread(self._catalogue.current)

    async def _team(self, team_id: str) -> Team:
        found = await self._accounts.team(team_id)
        if found is None:
            raise unknown_team(team_id)
        return found.team

    async def _apart(self, standing: Standing, tell: Callable[[TeamAccount, AccountIndex], T]) -> T:
        """What is worked out from the account, in a thread: it may take a while."""
        account = standing.account
        return await computed(
            self._accounts, standing.team_id, lambda index: tell(account, index), apart=True
        )

    async def _preflight(
        self, standing: Standing, tasks: Sequence[PlannedTask], member: str | None
    ) -> Preflight:
        team, catalogue = await self._team(standing.team_id), await self._current()
        return await self._apart(
            standing,
            lambda account, index: preflight(account, team, catalogue, index, standing.at, tasks, member),
        )

    def _today(self, standing: Standing) -> tuple[str, date]:
        """The team's zone now, and the day in it."""
        zones = standing.account.zones
        zone = next((each.value for each in reversed(zones) if each.since <= standing.at), zones[0].value)
        return zone, shown(standing.at, zone_named(zone)).date()

    async def _history(self, team_id: str, today: date) -> list[DaySpent]:
        page = await asyncio.to_thread(
            self._spending.spent, team_id, today - timedelta(HISTORY_DAYS), today + timedelta(1)
        )
        return _spent(page.rows)

    async def _pool(self, team_id: str, today: date, horizon: int) -> Pool:
        """How other teams of the ledger went on, by whole days before today; built in where they are too few."""

        def learned() -> Pool:
            others = self._spending.sample(team_id, today - timedelta(HISTORY_DAYS), today)
            return learn_pool([each.days for each in others], horizon)

        return await asyncio.to_thread(learned)

    async def _charges(self, team_id: str) -> list[RecentChargeAnswer]:
        asked = StatementFilter(kinds=frozenset({"CreditsCharged", "HoldCaptured"}))
        page = await asyncio.to_thread(
            self._statements.page, team_id, asked=asked, after=None, limit=RECENT_CHARGES, newest_first=True
        )
        return [
            RecentChargeAnswer(
                version=row.version,
                charge_id=row.charge_id,
                occurred_at=row.occurred_at,
                action=row.action,
                member=row.member,
                project=row.project,
                work=row.work,
                amount=row.amount_micros,
            )
            for row in page.rows
        ]


def _spent(rows: Sequence[SpendingRow]) -> list[DaySpent]:
    return [DaySpent(row.day, row.action, row.uses, row.net_micros) for row in rows]


def _grouped(rows: Sequence[SpendingRow], by: Sequence[Part]) -> list[SpentAnswer]:
    """The rows with those added up that are alike in what was asked for, in its order."""
    groups: dict[tuple[object, ...], list[SpendingRow]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, part) for part in by), []).append(row)
    told: list[SpentAnswer] = []
    for key in sorted(groups, key=lambda values: [str(value) for value in values]):
        group, parts = groups[key], dict(zip(by, key, strict=True))
        told.append(
            SpentAnswer.model_validate(
                {
                    **{
                        part: parts.get(part) or None
                        for part in ("day", "action", "member", "project", "work")
                    },
                    "uses": sum(row.uses for row in group),
                    "waived": sum(row.waived for row in group),
                    "charged": sum(row.charged_micros for row in group),
                    "refunded": sum(row.refunded_micros for row in group),
                    "net": sum(row.net_micros for row in group),
                }
            )
        )
    return told


def _plan_answer(
    standing: Standing, told: SpendingPlan, learned: Learned | None, days: int
) -> SpendingPlanAnswer:
    return SpendingPlanAnswer(
        **standing.place(),
        starts_at=told.starts_at,
        ends_at=told.ends_at,
        is_learned=learned is not None,
        forecast=ForecastAnswer.of(learned.forecast, days) if learned else None,
        volumes=[VolumeAnswer.of(line) for line in told.lines],
        low=CourseAnswer.of(told.low),
        expected=CourseAnswer.of(told.expected),
        high=CourseAnswer.of(told.high),
        may_top_up=told.may_top_up,
        may_set_limits=told.may_set_limits,
    )
