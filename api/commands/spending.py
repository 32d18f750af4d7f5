"""The command that keeps a spending plan."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import TeamPath
from api.requests.spending import SavePlanBody


def spending_routes(router: APIRouter, run: Run) -> None:
    """The route of spending plans."""

    @router.post(
        "/{team_id}/spending-plans",
        status_code=201,
        name="save_spending_plan",
        operation_id="save_spending_plan",
    )
    async def save_spending_plan(asked: AskedHere, team_id: TeamPath, body: SavePlanBody) -> CommandAnswer:
        """The plan is worked out and kept, to be compared with what comes; `amount` is its expected cost."""
        return await run(asked, body.command(team_id))
