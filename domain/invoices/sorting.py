"""The events of one invoice, picked out of those recorded since its period began, while their sums are checked one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from domain.account.events import (
    CHARGES,
    AccountOpened,
    Charge,
    ChargeRefunded,
    MovingEvent,
    PeriodClosed,
    RecordedEvent,
)
from domain.invoices.assigning import BillingPeriod, books_begin_in, closed_period, served_at
from domain.invoices.credit_sums import net_of
from domain.invoices.reading import History

PORTION_REFUNDS = 1_000
"""The charges of so many refunds are asked for together."""


class NotTied(Exception):
    """The events given do not add up, so no invoice is made of them: one is missing, changed, or not where it should be."""

    def __init__(self, team_id: str, version: int, detail: str) -> None:
        super().__init__(f"team {team_id}, version {version}: {detail}")
        self.team_id, self.version = team_id, version


class Placed(NamedTuple):
    """An event of the invoice; ``charge`` is what was charged or refunded, ``earlier`` the closed period that it serves."""

    recorded: RecordedEvent
    charge: Charge | None = None
    earlier: BillingPeriod | None = None


class _Refund(NamedTuple):
    """A refund that waits for its charge to be read, and whether the invoice's period was the oldest open one."""

    recorded: RecordedEvent
    event: ChargeRefunded
    is_open: bool


class Sorting:
    """Picks out the events of one period's invoice; once they are read, ``version`` and ``opening_micros`` are known.

    Memory grows with the number of refunds in the range. ``period`` has the version of its close once that was met. ``last_at``
    is the latest instant that any event which moves credits serves or was recorded at, None when there is none.
    """

    def __init__(self, period: BillingPeriod, history: History, until_version: int | None = None) -> None:
        self.period = period
        self.version = until_version or 0
        self.last_at: datetime | None = None
        self._history, self._until = history, until_version
        self._is_open = False
        self._before_micros: int | None = None
        self._now_micros = 0
        self._earlier_micros = 0
        self._refunds: list[_Refund] = []

    def mine(self, events: Iterable[RecordedEvent]) -> Iterator[Placed]:
        """The events of the invoice, refunds after all others; reading ends with the close, or ``until_version``.

        Raises: NotTied as soon as the sums that an event states are not those before it and its own amounts.
        """
        for recorded in events:
            version, event = recorded.originator_version, recorded.event
            if self._until is not None and version > self._until:
                break
            self.version = version
            if isinstance(event, MovingEvent):
                self._count(version, event)
            if isinstance(event, PeriodClosed):
                if event.period_end == self.period.start:
                    self._is_open = True
                elif event.period_start == self.period.start:
                    self.period = closed_period(recorded, event)
                    break
            elif isinstance(event, AccountOpened):
                self._is_open = books_begin_in(event, self.period.start, self.period.end)
            elif isinstance(event, ChargeRefunded):
                self._refunds.append(_Refund(recorded, event, self._is_open))
            else:
                yield from self._place(recorded)
        yield from self._refunded()

    def opening_micros(self, said_micros: int | None) -> int:
        """Settled credits less debt as the invoice opens: what the sums say, which is what the invoice before closed with.

        Raises: NotTied when ``said_micros``, the closing of that one, is another.
        """
        if self._before_micros is None:
            return said_micros or 0
        found_micros = self._before_micros + self._earlier_micros
        if said_micros is not None and said_micros != found_micros:
            raise self._not_tied(
                f"the period {self.period.label} opens with {found_micros} micro-credits by its events, the one before closed "
                f"with {said_micros}"
            )
        return found_micros

    def _place(self, recorded: RecordedEvent) -> Iterator[Placed]:
        event = recorded.event
        at = served_at(event)
        charge = event if isinstance(event, CHARGES) else None
        if at >= self.period.end:
            return
        if at >= self.period.start:
            yield Placed(recorded, charge)
        elif self._is_open:
            yield Placed(recorded, charge, self._history.books.period_of(at) if charge else None)
        else:
            self._earlier_micros += net_of(event)

    def _refunded(self) -> Iterator[Placed]:
        """The refunds whose charge makes them this invoice's; their charges are read a portion at a time."""
        for first in range(0, len(self._refunds), PORTION_REFUNDS):
            yield from self._refunded_of(self._refunds[first : first + PORTION_REFUNDS])

    def _refunded_of(self, refunds: list[_Refund]) -> Iterator[Placed]:
        charges = self._history.charges({each.event.charge_id for each in refunds})
        for recorded, event, is_open in refunds:
            charge = charges.get(event.charge_id)
            if charge is None:
                raise NotTied(
                    self._history.team_id,
                    recorded.originator_version,
                    f"charge {event.charge_id} that was refunded is on no file",
                )
            at = charge.occurred_at
            if at >= self.period.end:
                continue
            if at >= self.period.start:
                yield Placed(recorded, charge)
            elif is_open:
                yield Placed(recorded, charge, self._history.books.period_of(at))
            else:
                self._earlier_micros += net_of(event)

    def _count(self, version: int, event: MovingEvent) -> None:
        """The sums that the event states follow from those before it."""
        net_micros = -event.amount_micros if isinstance(event, CHARGES) else net_of(event)
        at = max(event.recorded_at, served_at(event))
        if self.last_at is None or at > self.last_at:
            self.last_at = at
        stated_micros = event.settled_after_micros - event.debt_after_micros
        if self._before_micros is None:
            self._before_micros = self._now_micros = stated_micros - net_micros
        self._now_micros += net_micros
        if self._now_micros != stated_micros:
            raise self._not_tied(
                f"{type(event).__name__} leaves settled credits less debt at {stated_micros} micro-credits, the events before it "
                f"and its own amounts at {self._now_micros}"
            )

    def _not_tied(self, detail: str) -> NotTied:
        return NotTied(self._history.team_id, self.version, detail)
