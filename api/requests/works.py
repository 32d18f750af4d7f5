"""Bodies about works: a brief, a step, a check before the handover, a result."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import DimensionValue, Id, Name, Quantity, Reason, Sent
from domain.commands import CheckHandover, EraseContexts, SaveWork, SaveWorkStep, StartWork
from domain.work.events import PlannedUse
from domain.work.texts import WorkText

ENTRIES_MAX = 100
Text = Annotated[str, Field(min_length=1, max_length=8_000)]
Reference = Annotated[str, Field(min_length=1, max_length=1_024)]
Named = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], Reference], Field(max_length=ENTRIES_MAX)
]
Whose = Annotated[Id | None, Field(description="Whose text it is; the caller's, when not given.")]


class PlannedUseBody(Sent):
    """A use that is planned, so many times."""

    action: Name
    meters: dict[Id, Quantity]
    dimensions: dict[Id, DimensionValue] = Field(default_factory=dict)
    step: Id | None = None
    times: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    def planned(self) -> PlannedUse:
        """The use as a command holds it."""
        return PlannedUse(
            action=self.action,
            meters=self.meters,
            dimensions=self.dimensions,
            step=self.step,
            times=self.times,
        )


class BriefBody(Sent):
    """Begin a work: what for, who will use the result, and what it plans to use."""

    work_id: Annotated[
        Id | None, Field(description="As usage records will name it; one is made, when not given.")
    ] = None
    goal: Text
    audience: Annotated[str, Field(min_length=1, max_length=8_000, description="Who will use the result.")]
    planned: list[PlannedUseBody] = Field(default_factory=list, max_length=ENTRIES_MAX)
    project: Id | None = None
    member: Whose = None
    reason: Reason | None = None

    def command(self, team_id: str, own: str | None = None) -> StartWork:
        """The command that this body asks for; ``own`` is the member who asks."""
        return StartWork(
            team_id=team_id,
            reason=self.reason,
            work_id=self.work_id,
            brief=WorkText(goal=self.goal, audience=self.audience),
            member=self.member or own,
            project=self.project,
            planned=[each.planned() for each in self.planned],
        )


class TextBody(Sent):
    """What was written and attached."""

    note: Text | None = None
    parameters: Named = Field(default_factory=dict)
    versions: Named = Field(default_factory=dict)
    prompts: list[Text] = Field(default_factory=list, max_length=ENTRIES_MAX)
    files: list[Reference] = Field(default_factory=list, max_length=ENTRIES_MAX)
    links: list[Reference] = Field(default_factory=list, max_length=ENTRIES_MAX)
    member: Whose = None
    reason: Reason | None = None

    def text(self) -> WorkText:
        """The text as a command holds it."""
        return WorkText(
            note=self.note,
            parameters=self.parameters,
            versions=self.versions,
            prompts=self.prompts,
            files=self.files,
            links=self.links,
        )


class StepBody(TextBody):
    """Save a step of a work: its parameters, versions, prompts, files and links, at most 16 KiB as JSON."""

    step: Annotated[Id, Field(description="As usage records name it.", examples=["draft"])]

    def command(self, team_id: str, work_id: str, own: str | None = None) -> SaveWorkStep:
        """The command that this body asks for; ``own`` is the member who asks."""
        return SaveWorkStep(
            team_id=team_id,
            reason=self.reason,
            work_id=work_id,
            step=self.step,
            text=self.text(),
            member=self.member or own,
        )


class ResultBody(TextBody):
    """Save the result of a work."""

    def command(self, team_id: str, work_id: str, own: str | None = None) -> SaveWork:
        """The command that this body asks for; ``own`` is the member who asks."""
        return SaveWork(
            team_id=team_id,
            reason=self.reason,
            work_id=work_id,
            result=self.text(),
            member=self.member or own,
        )


class HandoverBody(Sent):
    """Check whether a work may be handed over; ``next_use`` is what would come next."""

    next_use: PlannedUseBody | None = None
    reason: Reason | None = None

    def command(self, team_id: str, work_id: str) -> CheckHandover:
        """The command that this body asks for."""
        return CheckHandover(
            team_id=team_id,
            reason=self.reason,
            work_id=work_id,
            next_use=None if self.next_use is None else self.next_use.planned(),
        )


class ErasureBody(Sent):
    """Erase all that a member wrote."""

    reason: Reason | None = None

    def command(self, team_id: str, member: str) -> EraseContexts:
        """The command that this body asks for."""
        return EraseContexts(team_id=team_id, member=member, reason=self.reason)
