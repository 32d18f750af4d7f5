"""How each event changes the work: applying never refuses, it asserts what deciding promised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from domain.work.events import HandoverChecked, WorkEvent, WorkSaved, WorkStarted, WorkStepSaved
from domain.work.state import SavedStep, Work


def apply(work: Work, event: WorkEvent) -> None:
    """The work is as the event says, one version on."""
    assert (event.team_id, event.work_id) == (work.team_id, work.work_id), (
        f"an event of work {event.work_id!r} of {event.team_id!r} in the stream of {work.work_id!r} of {work.team_id!r}"
    )
    before = work.recorded_at
    assert before is None or event.recorded_at >= before, "recorded_at never decreases within a work"
    work.version += 1
    work.recorded_at = event.recorded_at
    _APPLY[type(event)](work, event)


def fold(work: Work, events: Iterable[WorkEvent]) -> Work:
    """The same work after the events."""
    for event in events:
        apply(work, event)
    return work


def _started(work: Work, event: WorkStarted) -> None:
    assert work.status == "new", "a work is started once, by its first event"
    work.status = "open"
    work.started_at = event.recorded_at
    work.started_by = event.member
    work.project = event.project
    if event.estimate is not None:
        work.estimate_micros = event.estimate.amount_micros
        for use in event.estimate.uses:
            step = use.planned.step or ""
            work.estimates_micros[step] = work.estimates_micros.get(step, 0) + use.amount_micros
        assert sum(work.estimates_micros.values()) == work.estimate_micros, (
            "the estimate is the sum of its uses"
        )


def _step_saved(work: Work, event: WorkStepSaved) -> None:
    assert work.status == "open", f"a step was saved in a work that is {work.status}"
    before = work.steps.get(event.step)
    assert event.revision == (before.revision if before else 0) + 1, "revisions of a step count from 1"
    work.steps[event.step] = SavedStep(event.revision, work.version, event.recorded_at)


def _checked(work: Work, event: HandoverChecked) -> None:
    assert work.status != "new", "what is handed over was started"
    work.handover_version = work.version
    work.handover_passes = event.passes


def _saved(work: Work, event: WorkSaved) -> None:
    assert work.status == "open", f"the result of a work that is {work.status} was saved"
    assert event.handover_version == work.handover_version, "the newest check of the handover is another"
    work.status = "saved"
    work.saved_at = event.recorded_at


_APPLY: dict[type[WorkEvent], Callable[[Work, Any], None]] = {
    WorkStarted: _started,
    WorkStepSaved: _step_saved,
    HandoverChecked: _checked,
    WorkSaved: _saved,
}
