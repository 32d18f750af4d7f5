"""The routes that read accounts: nothing here changes anything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

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
from api.explanations import ExplanationAnswer
from api.fields import RecordId, Source
from api.guard import GuardedRoute
from api.parameters import (
    CardPath,
    CardVersionPath,
    ChargePath,
    MinVersion,
    TeamPath,
    moment,
    page,
    statement_filter,
)
from api.queries import Moment, Page, Queries, Use
from api.requests import EstimateBody
from projections.explain import plain_text
from projections.statement import StatementFilter

_TEXT_OR_JSON: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "JSON, or text by Accept.",
    }
}


def read_routes(queries: Queries) -> APIRouter:
    """The routes of every question about one account, and of the price lists."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["accounts"], route_class=GuardedRoute)
    _balance_routes(router, queries)
    _list_routes(router, queries)
    _charge_routes(router, queries)
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
    async def read_account(team_id: TeamPath, min_version: MinVersion = None) -> AccountAnswer:
        """The account and its terms."""
        return await queries.account(team_id, min_version)

    @router.get("/balance", name="read_balance", operation_id="read_balance")
    async def read_balance(
        response: Response, team_id: TeamPath, asked: Annotated[Moment, Depends(moment)]
    ) -> BalanceAnswer:
        """Settled credits and their parts, and debt. ETag is the version of the account."""
        answer = await queries.balance(team_id, asked)
        response.headers["ETag"] = f'"{answer.version}"'
        return answer

    @router.get("/lots", name="list_lots", operation_id="list_lots")
    async def list_lots(team_id: TeamPath, asked: Annotated[Moment, Depends(moment)]) -> LotsAnswer:
        """Every lot with a remainder, in the order in which they burn; at most a thousand."""
        return await queries.lots(team_id, asked)

    @router.post("/estimates", name="estimate_usage", operation_id="estimate_usage")
    async def estimate_usage(
        team_id: TeamPath, body: EstimateBody, min_version: MinVersion = None
    ) -> EstimateAnswer:
        """What a use would cost if it occurred now, and which lots would pay. Nothing is changed, no key is needed."""
        use = Use(body.action, body.meters, body.dimensions, body.project)
        return await queries.estimate(team_id, use, min_version)


def _list_routes(router: APIRouter, queries: Queries) -> None:
    @router.get("/statement", name="read_statement", operation_id="read_statement")
    async def read_statement(
        team_id: TeamPath,
        part: Annotated[Page, Depends(page)],
        asked: Annotated[StatementFilter, Depends(statement_filter)],
        min_version: MinVersion = None,
    ) -> StatementAnswer:
        """The running history: one line per event that moved credits, with the sums after it."""
        return await queries.statement(team_id, part, asked, min_version)

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
        source: Annotated[Source, Query(description="The source of the usage record.")],
        record_id: Annotated[RecordId, Query(alias="id", description="The id of the usage record.")],
        min_version: MinVersion = None,
    ) -> ChargesAnswer:
        """The charge of a usage record, found by the record's own identity."""
        return await queries.charges(team_id, source, record_id, min_version)

    @router.get("/charges/{charge_id}", name="read_charge", operation_id="read_charge")
    async def read_charge(
        team_id: TeamPath, charge_id: ChargePath, min_version: MinVersion = None
    ) -> ChargeAnswer:
        """What became of one usage record: its price, its lots, what was refunded."""
        return await queries.charge(team_id, charge_id, min_version)

    @router.get(
        "/charges/{charge_id}/explanation",
        name="explain_charge",
        operation_id="explain_charge",
        response_model=ExplanationAnswer,
        responses=_TEXT_OR_JSON,
    )
    async def explain_charge(
        request: Request,
        team_id: TeamPath,
        charge_id: ChargePath,
        min_version: MinVersion = None,
        accept: Annotated[str | None, Header(max_length=1_000)] = None,
    ) -> ExplanationAnswer | Response:
        """Why a usage record cost what it did: record, rate, computation, lots, refunds. JSON, or text by Accept."""
        found, explained = await queries.explanation(team_id, charge_id, min_version)
        if _wants_text(accept):
            return Response(plain_text(explained), media_type="text/plain; charset=utf-8")
        return ExplanationAnswer.of(found, explained)


def _wants_text(accept: str | None) -> bool:
    """Whether plain text is asked for before JSON."""
    kinds = [part.split(";")[0].strip().lower() for part in (accept or "").split(",")]
    if "text/plain" not in kinds:
        return False
    return "application/json" not in kinds or kinds.index("text/plain") < kinds.index("application/json")
