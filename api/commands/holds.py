"""The commands about credits set aside for running work."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.guard import for_oneself, refuse_unlisted_action
from api.parameters import HoldPath, QuotePath, TeamPath
from api.requests.holds import CaptureBody, ExtensionBody, HoldBody, ReleaseBody
from api.requests.uses import QuoteWithdrawalBody


def hold_routes(router: APIRouter, run: Run) -> None:
    """The routes of credits set aside for running work."""

    @router.post("/{team_id}/holds", status_code=201, name="place_hold", operation_id="place_hold")
    async def place_hold(asked: AskedHere, team_id: TeamPath, body: HoldBody) -> CommandAnswer:
        """Credits are set aside, or not: `outcome` is held or denied, and a denial names the rule with least room."""
        refuse_unlisted_action(asked.request, body.action)
        return await run(asked, for_oneself(asked.request, body.command(team_id)))

    @router.post(
        "/{team_id}/holds/{hold_id}/extensions",
        status_code=201,
        name="extend_hold",
        operation_id="extend_hold",
    )
    async def extend_hold(
        asked: AskedHere, team_id: TeamPath, hold_id: HoldPath, body: ExtensionBody
    ) -> CommandAnswer:
        """The hold lasts so long from now, unless it lasted longer already; seven days in all."""
        return await run(asked, body.command(team_id, hold_id))

    @router.post(
        "/{team_id}/holds/{hold_id}/captures",
        status_code=201,
        name="capture_hold",
        operation_id="capture_hold",
    )
    async def capture_hold(
        asked: AskedHere, team_id: TeamPath, hold_id: HoldPath, body: CaptureBody
    ) -> CommandAnswer:
        """Part or all of the hold is a charge; above what it sets aside, the plan's policy decides."""
        return await run(asked, body.command(team_id, hold_id))

    @router.post(
        "/{team_id}/holds/{hold_id}/release",
        status_code=201,
        name="release_hold",
        operation_id="release_hold",
    )
    async def release_hold(
        asked: AskedHere, team_id: TeamPath, hold_id: HoldPath, body: ReleaseBody
    ) -> CommandAnswer:
        """The hold has ended; what it still set aside is available again."""
        return await run(asked, body.command(team_id, hold_id))

    @router.post(
        "/{team_id}/quotes/{quote_id}/withdrawal",
        status_code=201,
        name="withdraw_quote",
        operation_id="withdraw_quote",
    )
    async def withdraw_quote(
        asked: AskedHere, team_id: TeamPath, quote_id: QuotePath, body: QuoteWithdrawalBody
    ) -> CommandAnswer:
        """No hold may name the quote any more."""
        return await run(asked, body.command(team_id, quote_id))
