"""The answers to questions of auditors and support: a replay's steps as they are, explanations as their own structs tell them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.answers import Instant, Micros, Place, Told
from projections.replay import ReplayStep


class ReplayLine(Told):
    """One event and the balances of the whole account after it, at the time of recording."""

    version: int
    kind: Annotated[str, Field(description="The event's name.")]
    recorded_at: Annotated[Instant, Field(description="When the ledger wrote it.")]
    effective_at: Annotated[Instant, Field(description="When it counts from; of usage, when it occurred.")]
    amount: Annotated[Micros | None, Field(description="Null where no credits move.")]
    settled_after: Micros
    available_after: Micros
    held_after: Micros
    debt_after: Micros
    open_lots: int
    open_holds: int
    charge_id: str | None
    lot_id: str | None
    hold_id: str | None
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    actor: str
    role: str
    reason: str | None
    words: Annotated[str, Field(description="What happened, in one line.")]

    @classmethod
    def of(cls, step: ReplayStep) -> ReplayLine:
        """The answer for a step."""
        return cls(
            version=step.version,
            kind=step.kind,
            recorded_at=step.recorded_at,
            effective_at=step.effective_at,
            amount=step.amount_micros,
            settled_after=step.settled_after_micros,
            available_after=step.available_after_micros,
            held_after=step.held_after_micros,
            debt_after=step.debt_after_micros,
            open_lots=step.open_lots,
            open_holds=step.open_holds,
            charge_id=step.charge_id,
            lot_id=step.lot_id,
            hold_id=step.hold_id,
            action=step.action,
            member=step.member,
            project=step.project,
            work=step.work,
            actor=step.actor,
            role=step.role,
            reason=step.reason,
            words=step.words,
        )


class ReplayAnswer(Place):
    """A page of an account step by step; ``next`` continues it, null on the last page."""

    team_id: str
    data: list[ReplayLine]
    next: str | None


class BalanceExplanationAnswer(Place):
    """Why a team has what it has; every list sums exactly to what it explains."""

    team_id: str
    explanation: Annotated[
        dict[str, Any],
        Field(
            description="settled and its parts, and debt; lots with the event each came by and what every kind of event brought "
            "or took; open holds; happened: the newest movements one by one, those before them summed by month and kind."
        ),
    ]


class DenialExplanationAnswer(Place):
    """Why a hold was denied; ``version`` and ``as_of`` are those of the answer, the denial has its own in the explanation."""

    team_id: str
    explanation: Annotated[
        dict[str, Any],
        Field(
            description="the request; the rule with its window, what was used, held and the limit; the charges and holds behind "
            "these numbers; ways that would make it pass; since: how the same request would fare now."
        ),
    ]


class DiffAnswer(Place):
    """What changed between two moments; ``version`` and ``as_of`` are those of the later one."""

    team_id: str
    diff: Annotated[
        dict[str, Any],
        Field(
            description="before and after: the two moments; parts of the balance with before, after and change; lots, holds, "
            "limits and terms that read otherwise; between: what happened, summed by kind, adding up to the changes."
        ),
    ]
