"""Bodies about limits: set, remove."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import Amount, Id, Name, Reason, Sent
from domain.amounts import parse_credits
from domain.commands import RemoveLimit, SetLimit
from domain.terms import LimitTerms, LimitWindow

THRESHOLDS_MAX = 10
Threshold = Annotated[int, Field(ge=1, le=1_000)]


class LimitBody(Sent):
    """Set a limit, or change the cap, the kind or the thresholds of one that is there."""

    limit_id: Id
    window: LimitWindow
    cap: Annotated[Amount, Field(description="Credits that one window may spend.")]
    hard: Annotated[bool, Field(description="Hard: requests above it are denied. Soft: it only alerts.")] = (
        True
    )
    member: Id | None = None
    project: Id | None = None
    action: Name | None = None
    thresholds: Annotated[
        list[Threshold],
        Field(
            max_length=THRESHOLDS_MAX,
            description="Percentages of the cap, in rising order, that alert once in a window.",
            examples=[[50, 80, 100]],
        ),
    ] = Field(default_factory=list)
    reason: Reason | None = None

    def command(self, team_id: str) -> SetLimit:
        """The command that this body asks for."""
        limit = LimitTerms(
            limit_id=self.limit_id,
            window=self.window,
            cap_micros=parse_credits(self.cap, "cap"),
            hard=self.hard,
            member=self.member,
            project=self.project,
            action=self.action,
            thresholds=list(self.thresholds),
        )
        return SetLimit(team_id=team_id, limit=limit, reason=self.reason)


class LimitRemovalBody(Sent):
    """Take a limit away."""

    reason: Reason | None = None

    def command(self, team_id: str, limit_id: str) -> RemoveLimit:
        """The command that this body asks for."""
        return RemoveLimit(team_id=team_id, limit_id=limit_id, reason=self.reason)
