"""Answers about a team's plan, the period that runs, and what follows at its turn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import Instant, Micros, Place, Told
from domain.terms import PlanTerms


class PlanTermsAnswer(Told):
    """A version of a plan as the account keeps it."""

    plan_id: str
    version: int
    digest: str
    card_id: str
    allowance: Annotated[Micros, Field(description="Credits that each period brings.")]
    rollover_cap: Micros
    overdraft_cap: Micros
    captures: Annotated[
        dict[str, str], Field(description="By action: reject, if_available (when not named) or overdraft.")
    ]
    limits: Annotated[list[str], Field(description="Ids of the limits that come with it.")]
    price_minor: int
    currency: str

    @classmethod
    def of(cls, plan: PlanTerms) -> PlanTermsAnswer:
        """The answer for a plan."""
        return cls(
            plan_id=plan.plan_id,
            version=plan.version,
            digest=plan.digest,
            card_id=plan.card_id,
            allowance=plan.allowance_micros,
            rollover_cap=plan.rollover_cap_micros,
            overdraft_cap=plan.overdraft_cap_micros,
            captures=dict(plan.captures),
            limits=[limit.limit_id for limit in plan.limits],
            price_minor=plan.price_minor,
            currency=plan.currency,
        )


class PeriodAnswer(Told):
    """A billing period: its start included, its end excluded."""

    start: Instant
    end: Instant


class PendingPlanAnswer(Told):
    """A plan that follows."""

    plan: PlanTermsAnswer
    effective_at: Instant


class PendingZoneAnswer(Told):
    """A zone that follows."""

    zone: str
    effective_at: Instant


class PlanAnswer(Place):
    """The plan in force, the period that runs, and what follows."""

    team_id: str
    zone: str
    anchor_day: int
    card_id: str
    plan: PlanTermsAnswer | None
    period: PeriodAnswer
    next_turn: Annotated[
        Instant | None, Field(description="When a period of a plan begins next; null when none will.")
    ]
    pending_plan: PendingPlanAnswer | None
    pending_zone: PendingZoneAnswer | None


class PlansAnswer(Told):
    """The newest version of every published plan, by plan id."""

    data: list[PlanTermsAnswer]
