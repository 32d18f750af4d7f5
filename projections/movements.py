"""What happened to a team's credits, in a bounded list that sums exactly: the newest one by one, all before them by month.

Every event that moves credits or sets them aside is in it once, so its sums are the changes of settled credits, of what is held
and of debt over the whole stretch. Months are those of UTC, by the time of recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.account.events import AccountEvent, UsageWaived
from domain.amounts import format_credits
from projections.moves import NOTHING, Sums
from projections.replay import effective_at
from projections.statement import told_of
from projections.words import actor_words, event_words, kind_words, signed, time_words

NEWEST_DEFAULT = 20
NEWEST_MAX = 500


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """One event and what it changed. ``version`` None: it is due at the instant that is told, but not written yet."""

    version: int | None
    kind: str
    recorded_at: datetime | None
    effective_at: datetime
    words: str
    by: str
    reason: str | None
    settled_change_micros: int
    held_change_micros: int
    debt_change_micros: int


class MonthSum(msgspec.Struct, frozen=True, kw_only=True):
    """All events of one kind recorded in one month, written "2026-11"."""

    month: str
    kind: str
    events: int
    settled_change_micros: int
    held_change_micros: int
    debt_change_micros: int


class KindSum(msgspec.Struct, frozen=True, kw_only=True):
    """All events of one kind, and what they changed together."""

    kind: str
    events: int
    settled_change_micros: int
    held_change_micros: int
    debt_change_micros: int


class Movements(msgspec.Struct, frozen=True, kw_only=True):
    """``before`` summed by month and kind, then ``newest`` in order; both together sum to the totals."""

    before: list[MonthSum]
    newest: list[Movement]
    settled_change_micros: int
    held_change_micros: int
    debt_change_micros: int

    @property
    def events(self) -> int:
        """How many events there are in all."""
        return len(self.newest) + sum(each.events for each in self.before)


class Counted(NamedTuple):
    """So many events and what they changed together."""

    events: int
    change: Sums

    def plus(self, other: Counted) -> Counted:
        """Both together."""
        return Counted(self.events + other.events, self.change.plus(other.change))


Months = dict[tuple[str, str], Counted]
"""Movements summed by month and kind."""


_NONE = Counted(0, NOTHING)


class _Taken(NamedTuple):
    """An event of the list; ``version`` None when it is due and not written."""

    event: AccountEvent
    version: int | None
    change: Sums


class Happened:
    """Takes events in order and keeps the newest ``newest`` of them; memory is bounded by that and the number of months.

    ``before`` are the sums of all that had happened before the first event that is taken.
    """

    def __init__(self, newest: int = NEWEST_DEFAULT, before: Months | None = None) -> None:
        self._kept = max(0, min(newest, NEWEST_MAX))
        self._newest: deque[_Taken] = deque()
        self._months: Months = dict(before or {})
        self._kinds: dict[str, Counted] = {}
        self.total = NOTHING
        for (_, kind), counted in self._months.items():
            self._kinds[kind] = counted.plus(self._kinds.get(kind, _NONE))
            self.total = self.total.plus(counted.change)

    @property
    def is_full(self) -> bool:
        """Whether as many events were taken as are told one by one."""
        return len(self._newest) == self._kept

    def take(self, event: AccountEvent, version: int | None, change: Sums) -> None:
        """The event is in the list, if it is one that moves credits or sets them aside."""
        if not is_movement(event):
            return
        self.total = self.total.plus(change)
        kind = type(event).__name__
        self._kinds[kind] = self._kinds.get(kind, _NONE).plus(Counted(1, change))
        self._newest.append(_Taken(event, version, change))
        while len(self._newest) > self._kept:
            oldest = self._newest.popleft()
            add_to_months(self._months, oldest.event, oldest.change)

    def told(self) -> Movements:
        """The list."""
        return Movements(
            before=[
                MonthSum(
                    month=month,
                    kind=kind,
                    events=events,
                    settled_change_micros=change.settled_micros,
                    held_change_micros=change.held_micros,
                    debt_change_micros=change.debt_micros,
                )
                for (month, kind), (events, change) in sorted(self._months.items())
            ],
            newest=[_movement(*taken) for taken in self._newest],
            settled_change_micros=self.total.settled_micros,
            held_change_micros=self.total.held_micros,
            debt_change_micros=self.total.debt_micros,
        )

    def by_kind(self) -> list[KindSum]:
        """The same, summed by kind alone."""
        return [
            KindSum(
                kind=kind,
                events=events,
                settled_change_micros=change.settled_micros,
                held_change_micros=change.held_micros,
                debt_change_micros=change.debt_micros,
            )
            for kind, (events, change) in sorted(self._kinds.items())
        ]


def is_movement(event: AccountEvent) -> bool:
    """Whether the event moves credits or sets them aside."""
    return told_of(event) is not None and not isinstance(event, UsageWaived)


def add_to_months(months: Months, event: AccountEvent, change: Sums) -> None:
    """The event counts in the month in which it was recorded."""
    at = event.recorded_at
    month = f"{at.year:04}-{at.month:02}", type(event).__name__
    months[month] = months.get(month, _NONE).plus(Counted(1, change))


def movements_text(told: Movements) -> Iterable[str]:
    """The list as lines of text, with its sum."""
    for each in told.before:
        change = changes_text(each.settled_change_micros, each.held_change_micros, each.debt_change_micros)
        yield f"  {each.month}  {kind_words(each.kind, each.events)}: {change}"
    for movement in told.newest:
        change = changes_text(
            movement.settled_change_micros, movement.held_change_micros, movement.debt_change_micros
        )
        place = f"version {movement.version}" if movement.version else "due, not written yet"
        why = f" ({movement.reason})" if movement.reason else ""
        yield f"  {time_words(movement.effective_at)}  {change}: {movement.words}, {place}, by {movement.by}{why}"
    total = changes_text(told.settled_change_micros, told.held_change_micros, told.debt_change_micros)
    yield f"  sum of all {told.events}: {total}"


def changes_text(settled_micros: int, held_micros: int, debt_micros: int) -> str:
    """What changed: settled always where nothing else did, held and debt where they did."""
    parts = [("settled", settled_micros), ("held", held_micros), ("debt", debt_micros)]
    told = [f"{name} {signed(micros)}" for name, micros in parts if micros]
    return ", ".join(told) or f"settled {format_credits(0)}"


def _movement(event: AccountEvent, version: int | None, change: Sums) -> Movement:
    return Movement(
        version=version,
        kind=type(event).__name__,
        recorded_at=event.recorded_at if version is not None else None,
        effective_at=effective_at(event),
        words=event_words(event),
        by=actor_words(event) if version is not None else "the clock",
        reason=event.reason,
        settled_change_micros=change.settled_micros,
        held_change_micros=change.held_micros,
        debt_change_micros=change.debt_micros,
    )
