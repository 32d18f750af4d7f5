"""The commands about caps on spending."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import LimitPath, TeamPath
from api.requests.limits import LimitBody, LimitRemovalBody


def limit_routes(router: APIRouter, run: Run) -> None:
    """The routes of caps on spending."""

    @router.post("/{team_id}/limits", status_code=201, name="set_limit", operation_id="set_limit")
    async def set_limit(asked: AskedHere, team_id: TeamPath, body: LimitBody) -> CommandAnswer:
        """The limit holds, or has another cap, kind or thresholds from now on; what was used stays."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/limits/{limit_id}/removal",
        status_code=201,
        name="remove_limit",
        operation_id="remove_limit",
    )
    async def remove_limit(
        asked: AskedHere, team_id: TeamPath, limit_id: LimitPath, body: LimitRemovalBody
    ) -> CommandAnswer:
        """The limit holds no more."""
        return await run(asked, body.command(team_id, limit_id))
