"""The routes that read what is open on an account: holds, limits, plan, payments, disputes; now or then."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers_disputes import DisputeAnswer, DisputesAnswer
from api.answers_holds import HoldAnswer, HoldsAnswer
from api.answers_limits import LimitsAnswer
from api.answers_payments import AutoTopUpAnswer, ChargebacksAnswer, TopUpAnswer
from api.answers_plans import PlanAnswer
from api.parameters import AskedMoment, DisputePath, HoldPath, PaymentPath, TeamPath
from api.queries import Queries


def open_routes(router: APIRouter, queries: Queries) -> None:
    """The routes of everything that is open."""
    _spending_routes(router, queries)
    _payment_routes(router, queries)
    _dispute_routes(router, queries)


def _spending_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/holds", name="list_holds", operation_id="list_holds")
    async def list_holds(team_id: TeamPath, asked: AskedMoment) -> HoldsAnswer:
        """Every open hold, in the order in which they were made; at most a thousand."""
        return await queries.accounts.holds(team_id, asked)

    @router.get("/holds/{hold_id}", name="read_hold", operation_id="read_hold")
    async def read_hold(team_id: TeamPath, hold_id: HoldPath, asked: AskedMoment) -> HoldAnswer:
        """One hold, open or ended."""
        return await queries.accounts.hold(team_id, hold_id, asked)

    @router.get("/limits", name="list_limits", operation_id="list_limits")
    async def list_limits(team_id: TeamPath, asked: AskedMoment) -> LimitsAnswer:
        """Every limit: used, held and remaining of its running window, when that resets, thresholds reached."""
        return await queries.accounts.limits(team_id, asked)

    @router.get("/plan", name="read_plan", operation_id="read_plan")
    async def read_plan(team_id: TeamPath, asked: AskedMoment) -> PlanAnswer:
        """The plan in force, the period that runs, its next turn, and what follows then."""
        return await queries.accounts.plan(team_id, asked)


def _payment_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/auto-top-up", name="read_auto_top_up", operation_id="read_auto_top_up")
    async def read_auto_top_up(team_id: TeamPath, asked: AskedMoment) -> AutoTopUpAnswer:
        """Automatic top-up: its terms, the request in flight, failures, what its window has spent."""
        return await queries.accounts.auto_top_up(team_id, asked)

    @router.get("/chargebacks", name="list_chargebacks", operation_id="list_chargebacks")
    async def list_chargebacks(team_id: TeamPath, asked: AskedMoment) -> ChargebacksAnswer:
        """The open chargebacks, and what each withholds."""
        return await queries.accounts.chargebacks(team_id, asked)

    @router.get("/top-ups/{payment_reference:path}", name="read_top_up", operation_id="read_top_up")
    async def read_top_up(
        team_id: TeamPath, payment_reference: PaymentPath, asked: AskedMoment
    ) -> TopUpAnswer:
        """What became of a payment: requested, settled or failed, the lot that it bought, its chargeback."""
        return await queries.accounts.top_up(team_id, payment_reference, asked)


def _dispute_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/disputes", name="list_disputes", operation_id="list_disputes")
    async def list_disputes(team_id: TeamPath, asked: AskedMoment) -> DisputesAnswer:
        """The open disputes, in the order in which they were opened; at most a hundred."""
        return await queries.accounts.disputes(team_id, asked)

    @router.get("/disputes/{dispute_id}", name="read_dispute", operation_id="read_dispute")
    async def read_dispute(team_id: TeamPath, dispute_id: DisputePath, asked: AskedMoment) -> DisputeAnswer:
        """One dispute, open or decided, with its evidence."""
        return await queries.accounts.dispute(team_id, dispute_id, asked)
