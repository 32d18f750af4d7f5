"""The commands about works: brief, steps, handover, saved result."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.guard import principal_of, refuse_other_member
from api.parameters import MemberPath, TeamPath, WorkPath
from api.requests.works import BriefBody, ErasureBody, HandoverBody, ResultBody, StepBody


def work_routes(router: APIRouter, run: Run) -> None:
    """The routes of a work from brief to saved result."""

    @router.post("/{team_id}/works", status_code=201, name="start_work", operation_id="start_work")
    async def start_work(asked: AskedHere, team_id: TeamPath, body: BriefBody) -> CommandAnswer:
        """A work begins with its brief; what it plans to use is estimated as it would be charged now."""
        refuse_other_member(asked.request, body.member)
        return await run(asked, body.command(team_id, principal_of(asked.request).member))

    @router.post(
        "/{team_id}/works/{work_id}/steps",
        status_code=201,
        name="save_work_step",
        operation_id="save_work_step",
    )
    async def save_work_step(
        asked: AskedHere, team_id: TeamPath, work_id: WorkPath, body: StepBody
    ) -> CommandAnswer:
        """A step is saved with its parameters, versions, prompts, files and links; once more, if it was before."""
        refuse_other_member(asked.request, body.member)
        return await run(asked, body.command(team_id, work_id, principal_of(asked.request).member))

    @router.post(
        "/{team_id}/works/{work_id}/handovers",
        status_code=201,
        name="check_handover",
        operation_id="check_handover",
    )
    async def check_handover(
        asked: AskedHere, team_id: TeamPath, work_id: WorkPath, body: HandoverBody
    ) -> CommandAnswer:
        """Charges, limits, invoices, roles and the price of what comes next, answered at one version and signed."""
        return await run(asked, body.command(team_id, work_id))

    @router.post(
        "/{team_id}/works/{work_id}/result", status_code=201, name="save_work", operation_id="save_work"
    )
    async def save_work(
        asked: AskedHere, team_id: TeamPath, work_id: WorkPath, body: ResultBody
    ) -> CommandAnswer:
        """The result is saved; the work takes no further step."""
        refuse_other_member(asked.request, body.member)
        return await run(asked, body.command(team_id, work_id, principal_of(asked.request).member))

    @router.post(
        "/{team_id}/members/{member}/erasure",
        status_code=201,
        name="erase_contexts",
        operation_id="erase_contexts",
    )
    async def erase_contexts(
        asked: AskedHere, team_id: TeamPath, member: MemberPath, body: ErasureBody
    ) -> CommandAnswer:
        """All that the member wrote is gone: contexts of usage, texts of works, records that were not charged. Charges stay."""
        return await run(asked, body.command(team_id, member))
