"""One decision on one work: its instant, its actor, and the events and texts it has led to so far."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from domain.actors import Actor
from domain.work.applying import apply
from domain.work.events import WorkEvent
from domain.work.state import Work, copy_of
from domain.work.texts import WorkText, salted_digest, text_bytes


class KeptText(NamedTuple):
    """A text to keep beside the log: of which version of the work, of which step (None: of the work), whose, with its salt."""

    version: int
    step: str | None
    member: str
    salt: bytes
    text: bytes


class WorkDecision:
    """Decides on a copy of ``work``, which follows the events recorded; the work given stays as it was.

    ``at`` is the ``recorded_at`` of every event: the clock's instant, never before the work's last one. ``salt`` gives 16 random
    bytes each time.
    """

    def __init__(
        self,
        work: Work,
        at: datetime,
        actor: Actor,
        salt: Callable[[], bytes],
        correlation_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.work = copy_of(work)
        self.expected_version = work.version
        self.at = at if work.recorded_at is None else max(at, work.recorded_at)
        self.actor = actor
        self.correlation_id = correlation_id
        self.reason = reason
        self.events: list[WorkEvent] = []
        self.texts: list[KeptText] = []
        self._salt = salt

    def record(self, event: WorkEvent) -> None:
        """The event is applied and will be written."""
        apply(self.work, event)
        self.events.append(event)

    def keep(self, text: WorkText, step: str | None, member: str) -> str:
        """The text will be kept beside the next event of the work; returns its digest, for that event. Raises: Malformed."""
        salt, encoded = self._salt(), text_bytes(text)
        self.texts.append(KeptText(self.work.version + 1, step, member, salt, encoded))
        return salted_digest(salt, encoded)
