"""Every event of a piece of work, with its stable topic: from brief to handover to saved result.

Each work is a stream of its own, in the log of its team's account. What people wrote (goal, audience, prompts, parameters, files,
links) is not on the events: it can be erased, and an event holds its salted digest only.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from domain.actors import Actor


class PlannedUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A use that a brief plans, so many times: its action and quantities, and the step that it belongs to."""

    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    step: str | None = None
    times: int = 1


class PlannedCost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a planned use was estimated to cost, all its times together."""

    planned: PlannedUse
    amount_micros: int


class WorkEstimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a work was estimated to cost when it was started: at this version of the account, by the function that charges."""

    account_version: int
    amount_micros: int
    debt_micros: int = 0
    uses: list[PlannedCost]


class PreflightResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the checklist before the start: whether it passed, why not, and what would make it pass."""

    check: str
    passes: bool
    why: str
    remedy: str | None = None


class WorkEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of a work carries: whose and which it is, when the ledger wrote it, who caused it, and on whose behalf."""

    TOPIC: ClassVar[str] = ""
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ()
    """Earlier shapes that read as this one: what they did not say has its default."""

    team_id: str
    work_id: str
    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class WorkStarted(WorkEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of work was begun with a brief: its goal and who will use the result are the text of ``context_digest``.

    ``member`` is whose text it is. ``estimate`` and ``preflight`` are what was known before anything was spent.
    """

    TOPIC: ClassVar[str] = "WorkStarted.1"

    member: str
    project: str | None = None
    context_digest: str
    estimate: WorkEstimate | None = None
    preflight: list[PreflightResult] = []


class WorkStepSaved(WorkEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A step was saved: how it was made and what came of it are the text of ``context_digest``.

    ``revision`` counts how often the step was saved, from 1. The numbers say how much was saved of each kind.
    """

    TOPIC: ClassVar[str] = "WorkStepSaved.1"

    step: str
    revision: int
    member: str
    context_digest: str
    parameters: int = 0
    versions: int = 0
    prompts: int = 0
    files: int = 0
    links: int = 0


class HandoverChecked(WorkEvent, frozen=True, kw_only=True, omit_defaults=True):
    """What must be known before a work is handed over was answered at one version of the account, and signed.

    ``document`` is the canonical JSON that was signed, ``signature`` its Ed25519 signature in hex, ``key_id`` names the key.
    """

    TOPIC: ClassVar[str] = "HandoverChecked.1"

    account_version: int
    passes: bool
    document: str
    key_id: str
    signature: str


class WorkSaved(WorkEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The result is saved: files and links to it are the text of ``context_digest``. The work takes no further step.

    ``handover_version`` is the version of the newest check of the handover, if there was one.
    """

    TOPIC: ClassVar[str] = "WorkSaved.1"

    member: str
    context_digest: str
    handover_version: int | None = None


WORK_EVENTS: tuple[type[WorkEvent], ...] = (WorkStarted, WorkStepSaved, HandoverChecked, WorkSaved)
"""All events that the stream of a work may hold."""


class RecordedWorkEvent(msgspec.Struct, frozen=True):
    """An event of a work at its place: the stream's id and the version that the event made."""

    originator_id: object
    originator_version: int
    event: WorkEvent
