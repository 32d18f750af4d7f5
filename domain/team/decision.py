"""One decision on one team's paperwork: its instant, its actor, and the events it has led to so far."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from domain.actors import Actor
from domain.team.applying import apply
from domain.team.events import TeamEvent
from domain.team.state import Team, copy_of


class TeamDecision:
    """Decides on a copy of ``team``, which follows the events recorded; the team given stays as it was.

    ``at`` is the ``recorded_at`` of every event: the clock's instant, never before the team's last one. A decision that also
    writes to the account passes that decision's ``at``, so that both say one instant.
    """

    def __init__(
        self,
        team: Team,
        at: datetime,
        actor: Actor,
        correlation_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.team = copy_of(team)
        self.expected_version = team.version
        self.at = at if team.recorded_at is None else max(at, team.recorded_at)
        self.actor = actor
        self.correlation_id = correlation_id
        self.reason = reason
        self.events: list[TeamEvent] = []

    def record(self, event: TeamEvent) -> None:
        """The event is applied and will be written."""
        apply(self.team, event)
        self.events.append(event)


class Said(TypedDict):
    """What every event says."""

    team_id: str
    recorded_at: datetime
    actor: Actor
    correlation_id: str | None
    reason: str | None


def said(decision: TeamDecision) -> Said:
    """What every event of the decision says."""
    return Said(
        team_id=decision.team.team_id,
        recorded_at=decision.at,
        actor=decision.actor,
        correlation_id=decision.correlation_id,
        reason=decision.reason,
    )
