"""The routes that read accounts: nothing here changes anything."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from api.answers import (
    AccountAnswer,
    BalanceAnswer,
    ChargeAnswer,
    ChargesAnswer,
    EstimateAnswer,
    HistoryAnswer,
    LotsAnswer,
    RateCardDocument,
    RateCardsAnswer,
    StatementAnswer,
)
from api.answers_holds import QuoteAnswer
from api.answers_plans import PlansAnswer
from api.fields import RecordId, Source
from api.guard import GuardedRoute, refuse_unlisted_action
from api.narrowing import OnlyMemberHere, narrowed, own_charge, own_charges
from api.parameters import (
    AskedMoment,
    CardPath,
    CardVersionPath,
    ChargePath,
    MinVersion,
    TeamPath,
    page,
    statement_filter,
)
from api.queries import Page, Queries, Use
from api.reads_open import open_routes
from api.reads_team import team_routes
from api.requests.uses import EstimateBody, QuoteBody
from projections.statement import StatementFilter


def read_routes(queries: Queries) -> APIRouter:
    """The routes of every question about one account, and of the price lists."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["accounts"], route_class=GuardedRoute)
    _balance_routes(router, queries)
    _use_routes(router, queries)
    _list_routes(router, queries)
    _charge_routes(router, queries)
    open_routes(router, queries)
    team_routes(router, queries)
    return router


def plan_routes(queries: Queries) -> APIRouter:
    """The route of plans that a team may have."""
    router = APIRouter(prefix="/v1/plans", tags=["plans"], route_class=GuardedRoute)

    @router.get("", name="list_plans", operation_id="list_plans")
    async def list_plans() -> PlansAnswer:
        """The newest version of every published plan; a team keeps the version that it was given."""
        return await queries.plans()

    return router


def rate_card_routes(queries: Queries) -> APIRouter:
    """The routes of what is sold."""
    router = APIRouter(prefix="/v1/rate-cards", tags=["rate cards"], route_class=GuardedRoute)

    @router.get("", name="list_rate_cards", operation_id="list_rate_cards")
    async def list_rate_cards() -> RateCardsAnswer:
        """Every standing version of every rate card."""
        return await queries.rate_cards()

    @router.get("/{card_id}/{version}", name="read_rate_card", operation_id="read_rate_card")
    async def read_rate_card(card_id: CardPath, version: CardVersionPath) -> RateCardDocument:
        """A version of a rate card with its document, as charges pin it."""
        return await queries.rate_card(card_id, version)

    return router


def _balance_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("", name="read_account", operation_id="read_account")
    async def read_account(team_id: TeamPath, asked: AskedMoment) -> AccountAnswer:
        """The account and its terms."""
        return await queries.accounts.account(team_id, asked)

    @router.get("/balance", name="read_balance", operation_id="read_balance")
    async def read_balance(team_id: TeamPath, asked: AskedMoment) -> BalanceAnswer:
        """Settled credits and their parts, and debt."""
        return await queries.accounts.balance(team_id, asked)

    @router.get("/lots", name="list_lots", operation_id="list_lots")
    async def list_lots(team_id: TeamPath, asked: AskedMoment) -> LotsAnswer:
        """Every lot with a remainder, in the order in which they burn; at most a thousand."""
        return await queries.accounts.lots(team_id, asked)


def _use_routes(router: APIRouter, queries: Queries) -> None:
    @router.post("/estimates", name="estimate_usage", operation_id="estimate_usage")
    async def estimate_usage(
        team_id: TeamPath, body: EstimateBody, min_version: MinVersion = None
    ) -> EstimateAnswer:
        """What a use would cost if it occurred now, and which lots would pay. Nothing is changed, no key is needed."""
        use = Use(body.action, body.meters, body.dimensions, body.project)
        return await queries.estimate(team_id, use, min_version)

    @router.post("/quotes", name="give_quote", operation_id="give_quote")
    async def give_quote(request: Request, team_id: TeamPath, body: QuoteBody) -> QuoteAnswer:
        """A price for a hold to name, honoured until it expires. Nothing is changed, no key is needed."""
        refuse_unlisted_action(request, body.action)
        use = Use(body.action, body.meters, body.dimensions, body.project)
        return await queries.quote(team_id, use, body.lasts_seconds)


def _list_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/statement", name="read_statement", operation_id="read_statement")
    async def read_statement(
        team_id: TeamPath,
        part: Annotated[Page, Depends(page)],
        asked: Annotated[StatementFilter, Depends(statement_filter)],
        when: AskedMoment,
        only: OnlyMemberHere,
    ) -> StatementAnswer:
        """The running history: one line per event that moved credits, with the sums after it."""
        return await queries.statement(team_id, part, narrowed(only, asked), when)

    @router.get("/history", name="read_history", operation_id="read_history")
    async def read_history(
        team_id: TeamPath, part: Annotated[Page, Depends(page)], min_version: MinVersion = None
    ) -> HistoryAnswer:
        """Every event as recorded, with its hash: what an auditor recomputes."""
        return await queries.history(team_id, part, min_version)


def _charge_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/charges", name="find_charges", operation_id="find_charges")
    async def find_charges(
        team_id: TeamPath,
        only: OnlyMemberHere,
        source: Annotated[Source, Query(description="The source of the usage record.")],
        record_id: Annotated[RecordId, Query(alias="id", description="The id of the usage record.")],
        min_version: MinVersion = None,
    ) -> ChargesAnswer:
        """The charge of a usage record, found by the record's own identity."""
        return own_charges(only, await queries.charges(team_id, source, record_id, min_version))

    @router.get("/charges/{charge_id}", name="read_charge", operation_id="read_charge")
    async def read_charge(
        team_id: TeamPath, charge_id: ChargePath, only: OnlyMemberHere, min_version: MinVersion = None
    ) -> ChargeAnswer:
        """What became of one usage record: its price, its lots, what was refunded."""
        return own_charge(only, await queries.charge(team_id, charge_id, min_version))
