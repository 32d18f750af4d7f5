"""The routes that change an account; each is one command under its idempotency key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request, Response

from api.answers import CommandAnswer
from api.guard import GuardedRoute, caller_of
from api.parameters import ChargePath, TeamPath, idempotency_key
from api.requests import CloseAccountBody, GrantBody, OpenAccountBody, RefundBody, TopUpBody
from domain.ledger import Caller, Command, Ledger

COMMANDS_AT_ONCE_MAX = 8
"""Commands run in threads; more than the database has connections for would only wait there."""

REPLAYED_HEADER = "Idempotent-Replayed"
"""On an answer from file: an earlier request under the same key did what it tells."""


class Asked(NamedTuple):
    """Who asks for a command, under which idempotency key, and the answer to be."""

    caller: Caller
    key: str
    response: Response


def _asked(request: Request, response: Response, key: Annotated[str, Depends(idempotency_key)]) -> Asked:
    return Asked(caller_of(request), key, response)


AskedHere = Annotated[Asked, Depends(_asked)]
Run = Callable[[Asked, Command], Awaitable[CommandAnswer]]


def command_routes(ledger: Ledger, at_once_max: int = COMMANDS_AT_ONCE_MAX) -> APIRouter:
    """The routes of every command that there is."""
    router = APIRouter(prefix="/v1/accounts", tags=["commands"], route_class=GuardedRoute)
    limiter: list[CapacityLimiter] = []

    async def run(asked: Asked, command: Command) -> CommandAnswer:
        if not limiter:
            limiter.append(CapacityLimiter(at_once_max))
        # The ledger waits for locks and for the disk, so it never runs on the event loop.
        answer = await to_thread.run_sync(
            ledger.execute, command, asked.caller, asked.key, limiter=limiter[0]
        )
        if answer.is_replayed:
            asked.response.headers[REPLAYED_HEADER] = "true"
        return CommandAnswer.of(answer)

    _account_routes(router, run)
    _credit_routes(router, run)
    return router


def _account_routes(router: APIRouter, run: Run) -> None:
    @router.post("", status_code=201, name="open_account", operation_id="open_account")
    async def open_account(asked: AskedHere, body: OpenAccountBody) -> CommandAnswer:
        """The team has an account; its periods are monthly from the anchor day in the zone."""
        return await run(asked, body.command())

    @router.post("/{team_id}/close", status_code=201, name="close_account", operation_id="close_account")
    async def close_account(asked: AskedHere, team_id: TeamPath, body: CloseAccountBody) -> CommandAnswer:
        """The account takes no further command and no usage."""
        return await run(asked, body.command(team_id))


def _credit_routes(router: APIRouter, run: Run) -> None:
    @router.post("/{team_id}/grants", status_code=201, name="grant_credits", operation_id="grant_credits")
    async def grant_credits(asked: AskedHere, team_id: TeamPath, body: GrantBody) -> CommandAnswer:
        """The team holds a new lot of given credits; debt is repaid first."""
        return await run(asked, body.command(team_id))

    @router.post("/{team_id}/top-ups", status_code=201, name="top_up_credits", operation_id="top_up_credits")
    async def top_up_credits(asked: AskedHere, team_id: TeamPath, body: TopUpBody) -> CommandAnswer:
        """The team holds a new lot of bought credits; a payment reference buys once."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/charges/{charge_id}/refunds",
        status_code=201,
        name="refund_charge",
        operation_id="refund_charge",
    )
    async def refund_charge(
        asked: AskedHere, team_id: TeamPath, charge_id: ChargePath, body: RefundBody
    ) -> CommandAnswer:
        """A charge is given back, in reverse order of its lines: all that is left of it, or an amount."""
        return await run(asked, body.command(team_id, charge_id))
