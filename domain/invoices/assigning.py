"""To which invoice an event belongs: the later of the period it serves and the oldest period open when it was recorded.

So each event is on exactly one invoice, closing never waits for late usage, and what comes after the close is an adjustment
of the next invoice that names its period. Bounds of closed periods are those stored when they were closed: a later change of
time zone data moves none of them.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.account.applying import opened
from domain.account.calendar import label_at, period_at, zone_at
from domain.account.events import (
    AccountEvent,
    AccountOpened,
    CreditsCharged,
    HoldCaptured,
    PeriodClosed,
    RecordedEvent,
    ZoneChangeScheduled,
)
from domain.account.index import AccountIndex, ClosedPeriod, EmptyIndex
from domain.account.state import Dated, TeamAccount
from domain.times import parse_instant


class BillingPeriod(NamedTuple):
    """A period of a team's books, start included, end excluded; ``closed_version`` is the version of its close, None: open."""

    start: datetime
    end: datetime
    zone: str
    label: str
    closed_version: int | None = None


class Books:
    """The periods of one team's books: closed ones as they are stored, later ones as its calendar has them.

    ``closed`` are all closed periods, in order; together with the oldest open one they tile the time since the books began.
    """

    def __init__(self, account: TeamAccount, index: AccountIndex, closed: Iterable[BillingPeriod]) -> None:
        self._account, self._index = account, index
        self._closed = list(closed)
        self._starts = [period.start for period in self._closed]

    @property
    def closed(self) -> list[BillingPeriod]:
        """The closed periods, oldest first."""
        return list(self._closed)

    @property
    def oldest_open(self) -> BillingPeriod:
        """The oldest period that is not closed."""
        return self._computed((self._account.books_start, self._account.books_end))

    def period_of(self, at: datetime) -> BillingPeriod:
        """The period that holds an instant.

        Before the books began there is no stored period: those are counted back from the first by months of UTC, so that no
        later zone data gives them other bounds.
        """
        first = self._closed[0] if self._closed else self.oldest_open
        if at < first.start:
            return _before(first, at)
        place = bisect_right(self._starts, at) - 1
        if place >= 0 and at < self._closed[place].end:
            return self._closed[place]
        if self._account.books_start <= at < self._account.books_end:
            return self.oldest_open
        return self._computed(period_at(self._account, self._index, at))

    def open_at(self, version: int) -> BillingPeriod:
        """The oldest period that was open when the event of that version was recorded; its own close is the first not in it."""
        for period in self._closed:
            if period.closed_version is not None and version < period.closed_version:
                return period
        return self.oldest_open

    def invoice_period(self, service_at: datetime, version: int) -> BillingPeriod:
        """The period on whose invoice an event is that serves ``service_at`` and was recorded as ``version``."""
        return max(self.period_of(service_at), self.open_at(version), key=_start)

    def _computed(self, bounds: tuple[datetime, datetime]) -> BillingPeriod:
        start, end = bounds
        zone = zone_at(self._account, self._index, start)
        return BillingPeriod(start, end, zone, label_at(self._account, self._index, start, end))


def _before(first: BillingPeriod, at: datetime) -> BillingPeriod:
    """The period that holds an instant before the first one."""
    back = _month(first.start) - _month(at)
    if _back(first.start, back) > at:
        back += 1
    year, month = divmod(int(first.label[:4]) * 12 + int(first.label[5:]) - 1 - back, 12)
    start, end = _back(first.start, back), _back(first.start, back - 1)
    return BillingPeriod(start, end, first.zone, f"{year:04}-{month + 1:02}")


def _back(start: datetime, months: int) -> datetime:
    """So many months of UTC earlier; on the last day of a month that is too short."""
    year, month = divmod(_month(start) - months, 12)
    day = min(start.day, monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)


def _month(at: datetime) -> int:
    return at.year * 12 + at.month - 1


class RunningBooks:
    """The periods of a team while its events go by, from the one that opened the account: each event in order is learnt once.

    Memory grows with the number of closed periods.
    """

    def __init__(self, event: AccountOpened) -> None:
        self.account = opened(event)
        self._closed: list[BillingPeriod] = []

    def learn(self, recorded: RecordedEvent) -> None:
        """The books are as after the event."""
        event = recorded.event
        if isinstance(event, PeriodClosed):
            self._closed.append(closed_period(recorded, event))
            self.account.books_start, self.account.books_end = event.period_end, event.following_end
        elif isinstance(event, ZoneChangeScheduled):
            self.account.zones.append(Dated(event.effective_at, event.zone))

    @property
    def books(self) -> Books:
        """The periods as they are now."""
        return Books(self.account, EmptyIndex(), self._closed)

    def start_for(self, service_at: datetime) -> datetime:
        """The start of the period on whose invoice an event is that serves ``service_at`` and comes next."""
        account = self.account
        if service_at < account.books_end:
            return account.books_start
        return period_at(account, EmptyIndex(), service_at)[0]


def closed_period(recorded: RecordedEvent, event: PeriodClosed) -> BillingPeriod:
    """The period that the event closed."""
    return BillingPeriod(
        event.period_start, event.period_end, event.zone, event.label, recorded.originator_version
    )


def stored_period(start: str, entry: bytes) -> BillingPeriod:
    """The closed period that an index entry of kind "period" tells, under its key."""
    closed = msgspec.json.decode(entry, type=ClosedPeriod)
    return BillingPeriod(
        parse_instant(start, "period_start"), closed.end, closed.zone, closed.label, closed.closed_version
    )


def books_begin_in(opened: AccountOpened, start: datetime, end: datetime) -> bool:
    """Whether the first period of the books is the one with these bounds."""
    return start <= (opened.books_from or opened.recorded_at) < end


def served_at(event: AccountEvent) -> datetime:
    """The instant that an event serves: usage when it occurred, a due fact as of its instant, else when it was recorded.

    A refund serves when its charge did: ask for that of the charge.
    """
    if isinstance(event, (CreditsCharged, HoldCaptured)):
        return event.occurred_at
    effective: datetime = getattr(event, "effective_at", event.recorded_at)
    return effective


def _start(period: BillingPeriod) -> datetime:
    return period.start
