"""How each event changes the team: applying never refuses, it asserts what deciding promised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from domain.team.events import (
    AccessRecorded,
    ActApproved,
    ActProposed,
    AdjustmentApproved,
    AdjustmentProposed,
    BillingDetailsChanged,
    KeyCreated,
    KeyRevoked,
    MemberJoined,
    MemberLeft,
    MemberRoleChanged,
    PaymentMethodRemoved,
    PaymentMethodSet,
    SpendingPlanSaved,
    TeamEvent,
)
from domain.team.state import SPENDING_PLANS_MAX, Member, ProposedAct, ProposedAdjustment, Team, TeamKey


def apply(team: Team, event: TeamEvent) -> None:
    """The team is as the event says, one version on."""
    assert event.team_id == team.team_id, (
        f"an event of team {event.team_id!r} in the stream of {team.team_id!r}"
    )
    before = team.recorded_at
    assert before is None or event.recorded_at >= before, "recorded_at never decreases within a team"
    team.version += 1
    team.recorded_at = event.recorded_at
    _APPLY[type(event)](team, event)


def fold(team: Team, events: Iterable[TeamEvent]) -> Team:
    """The same team after the events."""
    for event in events:
        apply(team, event)
    return team


def _joined(team: Team, event: MemberJoined) -> None:
    assert event.member not in team.members, f"{event.member} is a member already"
    team.members[event.member] = Member(event.role, event.recorded_at)


def _role_changed(team: Team, event: MemberRoleChanged) -> None:
    assert team.members[event.member].role == event.role_before, "the role before is not what the event says"
    team.members[event.member] = Member(event.role, event.recorded_at)


def _left(team: Team, event: MemberLeft) -> None:
    left = team.members.pop(event.member)
    assert all(key.member != event.member for key in team.keys.values()), "whoever leaves has no key left"
    assert left.role == event.role, "the role is not what the event says"


def _billing_details(team: Team, event: BillingDetailsChanged) -> None:
    team.billing_details = event.details


def _payment_method_set(team: Team, event: PaymentMethodSet) -> None:
    team.payment_method = event.method


def _payment_method_removed(team: Team, event: PaymentMethodRemoved) -> None:
    assert team.payment_method is not None, "there is no payment method to remove"
    team.payment_method = None


def _proposed(team: Team, event: AdjustmentProposed) -> None:
    assert event.adjustment_id not in team.adjustments, f"{event.adjustment_id} is proposed already"
    team.adjustments[event.adjustment_id] = ProposedAdjustment(
        adjustment_id=event.adjustment_id,
        direction=event.direction,
        amount_micros=event.amount_micros,
        proposed_by=event.actor,
        proposed_at=event.recorded_at,
        reason=event.reason,
    )


def _approved(team: Team, event: AdjustmentApproved) -> None:
    proposed = team.adjustments.pop(event.adjustment_id)
    said = (event.direction, event.amount_micros, event.proposed_by)
    assert (proposed.direction, proposed.amount_micros, proposed.proposed_by) == said, (
        "what was approved is not what was proposed"
    )
    assert proposed.proposed_by.id != event.actor.id, "whoever proposed it approved it"


def _plan_saved(team: Team, event: SpendingPlanSaved) -> None:
    assert event.plan.plan_id not in team.spending_plans, f"{event.plan.plan_id} is saved already"
    team.spending_plans[event.plan.plan_id] = event.plan
    while len(team.spending_plans) > SPENDING_PLANS_MAX:
        del team.spending_plans[next(iter(team.spending_plans))]


def _key_created(team: Team, event: KeyCreated) -> None:
    assert event.key_id not in team.keys, f"key {event.key_id} is there already"
    assert event.member in team.members, f"{event.member} is no member"
    team.keys[event.key_id] = TeamKey(
        member=event.member, created_at=event.recorded_at, expires_at=event.expires_at, scopes=event.scopes
    )


def _key_revoked(team: Team, event: KeyRevoked) -> None:
    revoked = team.keys.pop(event.key_id)
    assert revoked.member == event.member, "the key is another member's"


def _act_proposed(team: Team, event: ActProposed) -> None:
    assert event.act_id not in team.acts, f"{event.act_id} is proposed already"
    # What is too old to be approved goes, so that what waits stays bounded.
    team.acts = {each: act for each, act in team.acts.items() if not act.is_late(event.recorded_at)}
    team.acts[event.act_id] = ProposedAct(
        act_id=event.act_id,
        operation=event.operation,
        command=event.command,
        proposed_by=event.actor,
        proposed_at=event.recorded_at,
        amount_micros=event.amount_micros,
        reason=event.reason,
    )


def _act_approved(team: Team, event: ActApproved) -> None:
    proposed = team.acts.pop(event.act_id)
    assert (proposed.operation, proposed.proposed_by) == (event.operation, event.proposed_by), (
        "what was approved is not what was proposed"
    )
    assert proposed.proposed_by.id != event.actor.id, "whoever proposed it approved it"


def _access(_team: Team, _event: AccessRecorded) -> None:
    """Nothing is other than before: the event is the trace."""


_APPLY: dict[type[TeamEvent], Callable[[Team, Any], None]] = {
    MemberJoined: _joined,
    MemberRoleChanged: _role_changed,
    MemberLeft: _left,
    BillingDetailsChanged: _billing_details,
    PaymentMethodSet: _payment_method_set,
    PaymentMethodRemoved: _payment_method_removed,
    AdjustmentProposed: _proposed,
    AdjustmentApproved: _approved,
    SpendingPlanSaved: _plan_saved,
    KeyCreated: _key_created,
    KeyRevoked: _key_revoked,
    ActProposed: _act_proposed,
    ActApproved: _act_approved,
    AccessRecorded: _access,
}
