"""Bodies about the account itself: open, suspend, resume, close; its plan and its zone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.fields import CardId, IssuerId, PlanId, Reason, Sent, TeamId, Time, Zone, instant
from domain.commands import (
    AssignPlan,
    CloseAccount,
    OpenAccount,
    ResumeAccount,
    ScheduleZoneChange,
    SuspendAccount,
)
from domain.issuer.details import MAIN_ISSUER


class OpenAccountBody(Sent):
    """Open a team's account."""

    team_id: TeamId
    zone: Zone = "UTC"
    anchor_day: Annotated[int, Field(ge=1, le=31, description="Day of the month on which periods start.")] = 1
    card_id: CardId = "standard"
    issuer_id: IssuerId = MAIN_ISSUER
    books_from: Annotated[
        Time | None,
        Field(
            description="The first period of its books is the one of this time; now, when it is not given."
        ),
    ] = None
    reason: Reason | None = None

    def command(self) -> OpenAccount:
        """The command that this body asks for."""
        return OpenAccount(
            team_id=self.team_id,
            zone=self.zone,
            anchor_day=self.anchor_day,
            card_id=self.card_id,
            issuer_id=self.issuer_id,
            books_from=instant(self.books_from, "books_from"),
            reason=self.reason,
        )


class SuspendAccountBody(Sent):
    """Take no new request to spend."""

    reason: Reason

    def command(self, team_id: str) -> SuspendAccount:
        """The command that this body asks for."""
        return SuspendAccount(team_id=team_id, reason=self.reason)


class ResumeAccountBody(Sent):
    """Take requests to spend again."""

    reason: Reason

    def command(self, team_id: str) -> ResumeAccount:
        """The command that this body asks for."""
        return ResumeAccount(team_id=team_id, reason=self.reason)


class CloseAccountBody(Sent):
    """Close a team's account."""

    reason: Reason

    def command(self, team_id: str) -> CloseAccount:
        """The command that this body asks for."""
        return CloseAccount(team_id=team_id, reason=self.reason)


class PlanBody(Sent):
    """Give the team the newest version of a plan."""

    plan_id: PlanId
    takes_effect: Annotated[
        Literal["now", "turn"], Field(description="A plan that brings less may only follow at the turn.")
    ] = "now"
    reason: Reason | None = None

    def command(self, team_id: str) -> AssignPlan:
        """The command that this body asks for."""
        return AssignPlan(
            team_id=team_id, plan_id=self.plan_id, takes_effect=self.takes_effect, reason=self.reason
        )


class ZoneBody(Sent):
    """Move periods and windows to another zone from the next turn on."""

    zone: Zone
    reason: Reason | None = None

    def command(self, team_id: str) -> ScheduleZoneChange:
        """The command that this body asks for."""
        return ScheduleZoneChange(team_id=team_id, zone=self.zone, reason=self.reason)
