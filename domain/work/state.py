"""What a piece of work is now: how far it has come, what it was estimated to cost, which steps were saved."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

WORK_SCHEMA = 1
"""Counts up when the state of the same events would be stored otherwise; heads of another schema are folded again."""

WORK_NAMESPACE = uuid5(NAMESPACE_URL, "urn:coffer:work")

WorkStatus = Literal["new", "open", "saved"]


def work_stream_id(team_id: str, work_id: str) -> UUID:
    """The id of a work's stream: ``uuid5(uuid5(WORK_NAMESPACE, team id), work id)``, fixed for ever."""
    return uuid5(uuid5(WORK_NAMESPACE, team_id), work_id)


class SavedStep(msgspec.Struct, frozen=True):
    """A step as it was last saved: how often, in which version of the work, and when."""

    revision: int
    version: int
    saved_at: datetime


class Work(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One work as of ``version``; before its first event it is new, at version 0.

    ``estimates_micros`` is what was estimated, by step ("" for what names none). ``steps`` are by name, in the order in which
    they were first saved; ``handover_version`` is the version of the newest check of the handover.
    """

    team_id: str
    work_id: str
    version: int = 0
    recorded_at: datetime | None = None
    status: WorkStatus = "new"
    started_at: datetime | None = None
    started_by: str = ""
    project: str | None = None
    estimate_micros: int | None = None
    estimates_micros: dict[str, int] = {}
    steps: dict[str, SavedStep] = {}
    handover_version: int | None = None
    handover_passes: bool = False
    saved_at: datetime | None = None


def copy_of(work: Work) -> Work:
    """A work equal to this one that shares nothing that changes."""
    return msgspec.structs.replace(work, estimates_micros=dict(work.estimates_micros), steps=dict(work.steps))
