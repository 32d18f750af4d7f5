"""The routes of use that is planned and credits that were spent: estimates, preflight, spending, plans, review."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.answers_spending import (
    EstimatesAnswer,
    PlanActualAnswer,
    PreflightAnswer,
    ReviewAnswer,
    SavedPlansAnswer,
    SpendingAnswer,
    SpendingPlanAnswer,
)
from api.fields import Id
from api.guard import GuardedRoute
from api.parameters import MinVersion, TeamPath
from api.requests.spending import EstimatesBody, PlanSpendingBody, PreflightBody, ReviewBody
from api.spending_queries import Part, Span, SpendingQueries

SpendingPlanPath = Annotated[
    Id, Path(description="The plan, as it was named when it was saved.", examples=["plan-3"])
]
Day = Annotated[dt.date | None, Query(description="A day of the team's zone.", examples=["2026-11-01"])]


def spending_routes(queries: SpendingQueries) -> APIRouter:
    """The routes that tell a team what it will spend, and what it spent."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["spending"], route_class=GuardedRoute)
    _before_routes(router, queries)
    _spending_routes(router, queries)
    return router


def _before_routes(router: APIRouter, queries: SpendingQueries) -> None:
    @router.post("/estimates/many", name="estimate_uses", operation_id="estimate_uses")
    async def estimate_uses(
        team_id: TeamPath, body: EstimatesBody, min_version: MinVersion = None
    ) -> EstimatesAnswer:
        """What uses would cost, one after the other: lots, tiers, limits and debt move along. Nothing is changed."""
        return await queries.estimates(team_id, [use.use() for use in body.uses], body.mode, min_version)

    @router.post("/preflight", name="preflight_uses", operation_id="preflight_uses")
    async def preflight_uses(
        team_id: TeamPath, body: PreflightBody, min_version: MinVersion = None
    ) -> PreflightAnswer:
        """May these tasks run now? Each check says why, what would make it pass, and who may do that. Nothing is changed."""
        return await queries.preflight(
            team_id, [task.task() for task in body.tasks], body.member, min_version
        )

    @router.post("/review", name="review_account", operation_id="review_account")
    async def review_account(team_id: TeamPath, body: ReviewBody) -> ReviewAnswer:
        """May I hand this over? Charges, limits, invoices, permissions, the price of what comes next. Nothing is changed."""
        return await queries.review(
            team_id, body.next_use.use() if body.next_use is not None else None, body.member
        )


def _spending_routes(router: APIRouter, queries: SpendingQueries) -> None:
    @router.get("/spending", name="read_spending", operation_id="read_spending")
    async def read_spending(
        team_id: TeamPath,
        since: Day = None,
        until: Day = None,
        by: Annotated[
            list[Part] | None,
            Query(
                max_length=5, description="What rows are told apart by; day and action, when nothing is said."
            ),
        ] = None,
    ) -> SpendingAnswer:
        """What was spent by day, action, member, project and work; what is spent a day of late, and a forecast."""
        return await queries.spending(
            team_id, Span(since, until, tuple(dict.fromkeys(by or ("day", "action"))))
        )

    @router.post("/spending-plans/preview", name="plan_spending", operation_id="plan_spending")
    async def plan_spending(team_id: TeamPath, body: PlanSpendingBody) -> SpendingPlanAnswer:
        """What volumes come to; without any, what the team's past teaches. Nothing is changed."""
        return await queries.plan(team_id, [volume.line() for volume in body.volumes], body.days)

    @router.get("/spending-plans", name="list_spending_plans", operation_id="list_spending_plans")
    async def list_spending_plans(team_id: TeamPath) -> SavedPlansAnswer:
        """The newest plans that were saved, the newest last."""
        return await queries.saved_plans(team_id)

    @router.get(
        "/spending-plans/{plan_id}/actual",
        name="read_spending_plan_actual",
        operation_id="read_spending_plan_actual",
    )
    async def read_spending_plan_actual(team_id: TeamPath, plan_id: SpendingPlanPath) -> PlanActualAnswer:
        """A saved plan against what came."""
        return await queries.actual(team_id, plan_id)
