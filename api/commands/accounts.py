"""The commands about the account itself."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import TeamPath
from api.requests.accounts import (
    CloseAccountBody,
    OpenAccountBody,
    PlanBody,
    ResumeAccountBody,
    SuspendAccountBody,
    ZoneBody,
)


def account_routes(router: APIRouter, run: Run) -> None:
    """The routes of the account itself."""

    @router.post("", status_code=201, name="open_account", operation_id="open_account")
    async def open_account(asked: AskedHere, body: OpenAccountBody) -> CommandAnswer:
        """The team has an account; its periods are monthly from the anchor day in the zone."""
        return await run(asked, body.command())

    @router.post(
        "/{team_id}/suspend", status_code=201, name="suspend_account", operation_id="suspend_account"
    )
    async def suspend_account(asked: AskedHere, team_id: TeamPath, body: SuspendAccountBody) -> CommandAnswer:
        """The account takes no new request to spend; usage is still charged, credit still comes in."""
        return await run(asked, body.command(team_id))

    @router.post("/{team_id}/resume", status_code=201, name="resume_account", operation_id="resume_account")
    async def resume_account(asked: AskedHere, team_id: TeamPath, body: ResumeAccountBody) -> CommandAnswer:
        """The account takes requests to spend again."""
        return await run(asked, body.command(team_id))

    @router.post("/{team_id}/close", status_code=201, name="close_account", operation_id="close_account")
    async def close_account(asked: AskedHere, team_id: TeamPath, body: CloseAccountBody) -> CommandAnswer:
        """The account takes no further command and no usage."""
        return await run(asked, body.command(team_id))

    @router.post("/{team_id}/plan", status_code=201, name="assign_plan", operation_id="assign_plan")
    async def assign_plan(asked: AskedHere, team_id: TeamPath, body: PlanBody) -> CommandAnswer:
        """The team has the newest version of the plan, now or from the turn of its period on."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/zone", status_code=201, name="schedule_zone_change", operation_id="schedule_zone_change"
    )
    async def schedule_zone_change(asked: AskedHere, team_id: TeamPath, body: ZoneBody) -> CommandAnswer:
        """Periods and windows are those of another zone from the next turn on."""
        return await run(asked, body.command(team_id))
