"""What one person may not do alone: it is proposed as a command, and done when another person approves it."""

from __future__ import annotations

from datetime import datetime

from domain.errors import ActRefused, SecondPersonNeeded, UnknownAct
from domain.team.card_numbers import refuse_card_numbers
from domain.team.decision import TeamDecision, said
from domain.team.events import AccessRecorded, ActApproved, ActProposed
from domain.team.state import ACT_LASTS, ProposedAct

ACTS_MAX = 100


def propose_act(decision: TeamDecision, operation: str, command: str, amount_micros: int | None) -> str:
    """The command waits for a second person; returns its id, ``act-<version of its event>``.

    Raises: ActRefused without a reason, or when too many wait that are not too old to be approved.
    """
    refuse_card_numbers(reason=decision.reason)
    if not (decision.reason or "").strip():
        raise ActRefused("reason is missing: say why, for the person who is to approve it", field="reason")
    waiting = [each for each in decision.team.acts.values() if not each.is_late(decision.at)]
    if len(waiting) >= ACTS_MAX:
        raise ActRefused(f"{ACTS_MAX} acts wait for approval, which is the most")
    act_id = f"act-{decision.team.version + 1}"
    decision.record(
        ActProposed(
            **said(decision), act_id=act_id, operation=operation, command=command, amount_micros=amount_micros
        )
    )
    return act_id


def approve_act(decision: TeamDecision, act_id: str) -> ProposedAct:
    """The act waits no more; returns it, to be done in the same transaction.

    Raises: UnknownAct for one that is not open; SecondPersonNeeded for whoever proposed it; ActRefused for one that is too old.
    """
    refuse_card_numbers(reason=decision.reason, act_id=act_id)
    proposed = decision.team.acts.get(act_id)
    if proposed is None:
        raise UnknownAct(
            f"team {decision.team.team_id!r} has no act {act_id[:80]!r} that waits for approval",
            act_id=act_id[:80],
        )
    if proposed.proposed_by.id == decision.actor.id:
        raise SecondPersonNeeded(
            f"{act_id} was proposed by {decision.actor.id!r}, who may not approve it: ask another person",
            act_id=act_id,
        )
    if proposed.is_late(decision.at):
        raise ActRefused(f"{act_id} was proposed more than {ACT_LASTS.days} days ago: propose it again")
    decision.record(
        ActApproved(
            **said(decision), act_id=act_id, operation=proposed.operation, proposed_by=proposed.proposed_by
        )
    )
    return proposed


def record_access(decision: TeamDecision, operation: str, hour: datetime) -> None:
    """There is a trace that the actor reads this of the team, in this hour."""
    decision.record(AccessRecorded(**said(decision), operation=operation, hour=hour))
