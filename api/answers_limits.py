"""Answers about caps on spending: terms, and what the running window has left."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import Instant, Micros, Place, Told
from projections.limits import LimitBalance


class LimitAnswer(Told):
    """One limit and the window that holds the instant of the answer."""

    limit_id: str
    window: str
    cap: Micros
    hard: bool
    member: str | None
    project: str | None
    action: str | None
    thresholds: list[int]
    plan_id: Annotated[str | None, Field(description="The plan that it came with and goes with.")]
    since: Annotated[Instant, Field(description="From when on it counts.")]
    window_start: Instant
    resets_at: Annotated[Instant | None, Field(description="The end of the window; null for a lifetime.")]
    used: Micros
    held: Annotated[Micros, Field(description="What open holds of its scope set aside now.")]
    remaining: Annotated[Micros, Field(description="cap − used − held, never below zero.")]
    reached: Annotated[list[int], Field(description="Thresholds, in percent, that this window has come to.")]

    @classmethod
    def of(cls, limit: LimitBalance) -> LimitAnswer:
        """The answer for a limit."""
        return cls(
            limit_id=limit.limit_id,
            window=limit.window,
            cap=limit.cap_micros,
            hard=limit.hard,
            member=limit.member,
            project=limit.project,
            action=limit.action,
            thresholds=limit.thresholds,
            plan_id=limit.plan_id,
            since=limit.since,
            window_start=limit.window_start,
            resets_at=limit.window_end,
            used=limit.used_micros,
            held=limit.held_micros,
            remaining=limit.remaining_micros,
            reached=limit.reached,
        )


class LimitsAnswer(Place):
    """Every limit of the team."""

    team_id: str
    data: list[LimitAnswer]
