"""The commands about credits that are bought."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import PaymentPath, TeamPath
from api.requests.payments import AutoTopUpBody, ChargebackBody, TopUpBody, TopUpFailureBody, TopUpRequestBody


def payment_routes(router: APIRouter, run: Run) -> None:
    """The routes of credits that are bought."""

    @router.post("/{team_id}/top-ups", status_code=201, name="top_up_credits", operation_id="top_up_credits")
    async def top_up_credits(asked: AskedHere, team_id: TeamPath, body: TopUpBody) -> CommandAnswer:
        """The team holds a new lot of bought credits; a payment reference buys once."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/top-ups/requests", status_code=201, name="request_top_up", operation_id="request_top_up"
    )
    async def request_top_up(asked: AskedHere, team_id: TeamPath, body: TopUpRequestBody) -> CommandAnswer:
        """A top-up was asked for; no credit comes before its payment is settled."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/top-ups/{payment_reference:path}/failure",
        status_code=201,
        name="fail_top_up",
        operation_id="fail_top_up",
    )
    async def fail_top_up(
        asked: AskedHere, team_id: TeamPath, payment_reference: PaymentPath, body: TopUpFailureBody
    ) -> CommandAnswer:
        """The payment of a top-up, automatic or not, failed; no credit came."""
        return await run(asked, body.command(team_id, payment_reference))

    @router.post(
        "/{team_id}/top-ups/{payment_reference:path}/chargeback",
        status_code=201,
        name="open_chargeback",
        operation_id="open_chargeback",
    )
    async def open_chargeback(
        asked: AskedHere, team_id: TeamPath, payment_reference: PaymentPath, body: ChargebackBody
    ) -> CommandAnswer:
        """A bank takes the top-up back for now: what is left of it is withheld."""
        return await run(asked, body.opens(team_id, payment_reference))

    @router.post(
        "/{team_id}/top-ups/{payment_reference:path}/chargeback/won",
        status_code=201,
        name="win_chargeback",
        operation_id="win_chargeback",
    )
    async def win_chargeback(
        asked: AskedHere, team_id: TeamPath, payment_reference: PaymentPath, body: ChargebackBody
    ) -> CommandAnswer:
        """The top-up stands: what was withheld is back, the time withheld added to what expires."""
        return await run(asked, body.won(team_id, payment_reference))

    @router.post(
        "/{team_id}/top-ups/{payment_reference:path}/chargeback/lost",
        status_code=201,
        name="lose_chargeback",
        operation_id="lose_chargeback",
    )
    async def lose_chargeback(
        asked: AskedHere, team_id: TeamPath, payment_reference: PaymentPath, body: ChargebackBody
    ) -> CommandAnswer:
        """The top-up is gone: what was left of it is voided, what had been drawn from it is debt."""
        return await run(asked, body.lost(team_id, payment_reference))

    @router.post(
        "/{team_id}/auto-top-up",
        status_code=201,
        name="configure_auto_top_up",
        operation_id="configure_auto_top_up",
    )
    async def configure_auto_top_up(
        asked: AskedHere, team_id: TeamPath, body: AutoTopUpBody
    ) -> CommandAnswer:
        """Automatic top-up is as said here, or off; failures are forgotten."""
        return await run(asked, body.command(team_id))
