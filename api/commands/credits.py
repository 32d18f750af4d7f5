"""The commands about credits that come and go by hand."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import AdjustmentPath, ChargePath, LotPath, TeamPath
from api.requests.credits import AdjustmentBody, ApprovalBody, GrantBody, RefundBody, VoidBody


def credit_routes(router: APIRouter, run: Run) -> None:
    """The routes of credits that come and go by hand."""

    @router.post("/{team_id}/grants", status_code=201, name="grant_credits", operation_id="grant_credits")
    async def grant_credits(asked: AskedHere, team_id: TeamPath, body: GrantBody) -> CommandAnswer:
        """The team holds a new lot of given credits; debt is repaid first."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/grants/{lot_id}/void", status_code=201, name="void_grant", operation_id="void_grant"
    )
    async def void_grant(
        asked: AskedHere, team_id: TeamPath, lot_id: LotPath, body: VoidBody
    ) -> CommandAnswer:
        """What is left of a grant and of its successors is gone; nothing becomes debt."""
        return await run(asked, body.command(team_id, lot_id))

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

    @router.post(
        "/{team_id}/adjustments", status_code=201, name="adjust_balance", operation_id="adjust_balance"
    )
    async def adjust_balance(asked: AskedHere, team_id: TeamPath, body: AdjustmentBody) -> CommandAnswer:
        """The balance is raised or lowered; above the cap that is proposed, and another person approves it."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/adjustments/{adjustment_id}/approval",
        status_code=201,
        name="approve_adjustment",
        operation_id="approve_adjustment",
    )
    async def approve_adjustment(
        asked: AskedHere, team_id: TeamPath, adjustment_id: AdjustmentPath, body: ApprovalBody
    ) -> CommandAnswer:
        """An adjustment that somebody else proposed has happened."""
        return await run(asked, body.command(team_id, adjustment_id))
