"""What may happen to a work: every rule refuses before the first event, or records one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from domain.actors import Actor
from domain.errors import Malformed, UnknownWork, WorkRefused
from domain.work.decision import WorkDecision
from domain.work.events import (
    HandoverChecked,
    PreflightResult,
    WorkEstimate,
    WorkSaved,
    WorkStarted,
    WorkStepSaved,
)
from domain.work.texts import WorkText

STEPS_MAX = 500
"""So many steps has a work; each may be saved again and again."""

PLANNED_USES_MAX = 100
TIMES_MAX = 1_000_000

# The ids that usage records may carry.
_ID = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=\-]{0,127}", re.ASCII)


def start_work(
    decision: WorkDecision,
    brief: WorkText,
    member: str,
    project: str | None = None,
    estimate: WorkEstimate | None = None,
    preflight: Sequence[PreflightResult] = (),
) -> None:
    """The work has begun, with its brief.

    Raises: WorkRefused for one that was started before; Malformed, also for a brief without a goal.
    """
    for field, said in (("work_id", decision.work.work_id), ("project", project)):
        check_id(field, said)
    if decision.work.status != "new":
        raise WorkRefused(
            f"work {decision.work.work_id!r} was started {decision.work.started_at:%Y-%m-%d %H:%M} UTC: choose another id",
            work_id=decision.work.work_id,
        )
    if brief.goal is None or brief.audience is None:
        missing = "goal" if brief.goal is None else "audience"
        raise Malformed(
            f"{missing} is missing: a brief says what for, and who will use the result", field=missing
        )
    digest = decision.keep(brief, None, member)
    decision.record(
        WorkStarted(
            **_said(decision),
            member=member,
            project=project,
            context_digest=digest,
            estimate=estimate,
            preflight=list(preflight),
        )
    )


def save_step(decision: WorkDecision, step: str, text: WorkText, member: str) -> int:
    """The step is saved, once more if it was before; returns its revision. Raises: UnknownWork; WorkRefused; Malformed."""
    check_id("step", step)
    _require_open(decision)
    steps = decision.work.steps
    if step not in steps and len(steps) >= STEPS_MAX:
        raise WorkRefused(
            f"work {decision.work.work_id!r} has {STEPS_MAX} steps, which is the most:"
            " save one of them again, or start another work",
            work_id=decision.work.work_id,
        )
    revision = steps[step].revision + 1 if step in steps else 1
    decision.record(
        WorkStepSaved(
            **_said(decision),
            step=step,
            revision=revision,
            member=member,
            context_digest=decision.keep(text, step, member),
            parameters=len(text.parameters),
            versions=len(text.versions),
            prompts=len(text.prompts),
            files=len(text.files),
            links=len(text.links),
        )
    )
    return revision


def record_handover(
    decision: WorkDecision, account_version: int, document: str, passes: bool, key_id: str, signature: str
) -> None:
    """What was answered before the handover is on file as it was signed. Raises: UnknownWork."""
    require_started(decision)
    decision.record(
        HandoverChecked(
            **_said(decision),
            account_version=account_version,
            passes=passes,
            document=document,
            key_id=key_id,
            signature=signature,
        )
    )


def save_work(decision: WorkDecision, result: WorkText, member: str) -> None:
    """The result is saved and the work takes no further step. Raises: UnknownWork; WorkRefused; Malformed."""
    _require_open(decision)
    digest = decision.keep(result, None, member)
    decision.record(
        WorkSaved(
            **_said(decision),
            member=member,
            context_digest=digest,
            handover_version=decision.work.handover_version,
        )
    )


def require_started(decision: WorkDecision) -> None:
    """Raises: UnknownWork for one that was never started."""
    if decision.work.status == "new":
        raise UnknownWork(
            f"team {decision.work.team_id!r} has no work {decision.work.work_id[:128]!r}: start it first",
            work_id=decision.work.work_id[:128],
        )


def _require_open(decision: WorkDecision) -> None:
    require_started(decision)
    if decision.work.status == "saved":
        raise WorkRefused(
            f"the result of work {decision.work.work_id!r} is saved since {decision.work.saved_at:%Y-%m-%d %H:%M} UTC:"
            " start another work for what comes next",
            work_id=decision.work.work_id,
        )


class _Said(TypedDict):
    """What every event says."""

    team_id: str
    work_id: str
    recorded_at: datetime
    actor: Actor
    correlation_id: str | None
    reason: str | None


def _said(decision: WorkDecision) -> _Said:
    return _Said(
        team_id=decision.work.team_id,
        work_id=decision.work.work_id,
        recorded_at=decision.at,
        actor=decision.actor,
        correlation_id=decision.correlation_id,
        reason=decision.reason,
    )


def check_id(field: str, said: str | None) -> None:
    """The text may be an id, where there is one. Raises: Malformed."""
    if said is not None and not _ID.fullmatch(said):
        raise Malformed(
            f"{field} {said[:40]!r} is no id: 1 to 128 letters, digits or _.:@~+=- that begin with a letter, a digit, _ or -"
            " would be right",
            field=field,
        )
