"""Bodies about use that is planned: estimates of many, preflight, spending plans, review."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from api.fields import Amount, DimensionValue, Id, Line, Name, Quantity, Reason, Sent
from api.requests.uses import DIMENSIONS_MAX, METERS_MAX
from domain.account.estimating import USES_MAX, PlannedUse
from domain.amounts import parse_credits
from domain.commands import SaveSpendingPlan
from domain.spending.planning import HORIZON_DAYS_MAX, LINES_MAX, TIMES_MAX
from domain.spending.preflight import TASKS_MAX, PlannedTask
from domain.volumes import VolumeLine

TASK_KINDS_MAX = 20


class UseBody(Sent):
    """A use that is planned, as a usage record would say it."""

    action: Name
    meters: Annotated[dict[Name, Quantity], Field(max_length=METERS_MAX, examples=[{"images": "4"}])]
    dimensions: Annotated[
        dict[Name, DimensionValue], Field(max_length=DIMENSIONS_MAX, examples=[{"model": "base"}])
    ] = Field(default_factory=dict)
    member: Id | None = None
    project: Id | None = None

    def use(self) -> PlannedUse:
        """The use."""
        return PlannedUse(self.action, dict(self.meters), dict(self.dimensions), self.member, self.project)


class EstimatesBody(Sent):
    """Uses that are planned, one after the other: what would each cost now?"""

    uses: Annotated[list[UseBody], Field(min_length=1, max_length=USES_MAX)]
    mode: Annotated[
        Literal["add", "replace"],
        Field(description="On top of this period, or a period as if nothing had happened in it."),
    ] = "add"


class TaskBody(UseBody):
    """A use and how many times it is to run."""

    times: Annotated[int, Field(ge=1, le=TASKS_MAX)] = 1

    def task(self) -> PlannedTask:
        """The task."""
        return PlannedTask(self.use(), self.times)


class PreflightBody(Sent):
    """May these tasks run now?"""

    tasks: Annotated[list[TaskBody], Field(min_length=1, max_length=TASK_KINDS_MAX)]
    member: Annotated[Id | None, Field(description="Who asks; counts for tasks that name no member.")] = None


class VolumeBody(Sent):
    """So many uses of one kind over the horizon, in three variants, each priced by the card, or at what one cost before."""

    action: Name
    meters: Annotated[dict[Name, Quantity], Field(max_length=METERS_MAX, examples=[{"images": "4"}])] = Field(
        default_factory=dict
    )
    dimensions: Annotated[dict[Name, DimensionValue], Field(max_length=DIMENSIONS_MAX)] = Field(
        default_factory=dict
    )
    member: Id | None = None
    project: Id | None = None
    low: Annotated[int, Field(ge=0, le=TIMES_MAX)]
    expected: Annotated[int, Field(ge=0, le=TIMES_MAX)]
    high: Annotated[int, Field(ge=0, le=TIMES_MAX)]
    amount: Annotated[
        Amount | None,
        Field(description="What one use costs, where the past says so and no meters are given."),
    ] = None

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low <= self.expected <= self.high:
            raise ValueError("low, expected and high do not rise")
        return self

    def line(self) -> VolumeLine:
        """The volume."""
        return VolumeLine(
            action=self.action,
            meters=dict(self.meters),
            dimensions=dict(self.dimensions),
            member=self.member,
            project=self.project,
            low=self.low,
            expected=self.expected,
            high=self.high,
            amount_micros=None if self.amount is None else parse_credits(self.amount, "amount"),
        )


Days = Annotated[
    int,
    Field(ge=1, le=HORIZON_DAYS_MAX, description="Days of the team's zone, today included.", examples=[30]),
]


class PlanSpendingBody(Sent):
    """What do these volumes come to? Without volumes they are learned from what the team spent."""

    days: Days = 30
    volumes: Annotated[list[VolumeBody], Field(max_length=LINES_MAX)] = Field(default_factory=list)


class SavePlanBody(Sent):
    """Keep a plan of these volumes, for an audience, to be compared with what comes."""

    audience: Annotated[
        Line, Field(description="Who will use what it pays for.", examples=["the autumn campaign"])
    ]
    days: Days = 30
    volumes: Annotated[list[VolumeBody], Field(min_length=1, max_length=LINES_MAX)]
    reason: Reason | None = None

    def command(self, team_id: str) -> SaveSpendingPlan:
        """The command that this body asks for."""
        return SaveSpendingPlan(
            team_id=team_id,
            audience=self.audience,
            days=self.days,
            volumes=[volume.line() for volume in self.volumes],
            reason=self.reason,
        )


class ReviewBody(Sent):
    """May I hand this over? With the next use, also: what will it cost, and may it run?"""

    next_use: UseBody | None = None
    member: Annotated[Id | None, Field(description="Who would ask for the next use.")] = None
