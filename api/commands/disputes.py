"""The commands about charges that a customer contests."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import DisputePath, TeamPath
from api.requests.disputes import DecisionBody, DisputeBody


def dispute_routes(router: APIRouter, run: Run) -> None:
    """The routes of charges that a customer contests."""

    @router.post(
        "/{team_id}/disputes", status_code=201, name="open_charge_dispute", operation_id="open_charge_dispute"
    )
    async def open_charge_dispute(asked: AskedHere, team_id: TeamPath, body: DisputeBody) -> CommandAnswer:
        """The charges are contested, with evidence; nothing moves before the dispute is decided."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/disputes/{dispute_id}/uphold",
        status_code=201,
        name="uphold_charge_dispute",
        operation_id="uphold_charge_dispute",
    )
    async def uphold_charge_dispute(
        asked: AskedHere, team_id: TeamPath, dispute_id: DisputePath, body: DecisionBody
    ) -> CommandAnswer:
        """The customer was right: what is left of each charge is refunded."""
        return await run(asked, body.upholds(team_id, dispute_id))

    @router.post(
        "/{team_id}/disputes/{dispute_id}/reject",
        status_code=201,
        name="reject_charge_dispute",
        operation_id="reject_charge_dispute",
    )
    async def reject_charge_dispute(
        asked: AskedHere, team_id: TeamPath, dispute_id: DisputePath, body: DecisionBody
    ) -> CommandAnswer:
        """The charges stand."""
        return await run(asked, body.rejects(team_id, dispute_id))
