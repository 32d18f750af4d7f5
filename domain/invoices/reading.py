"""What an invoice needs to know beside the events recorded since its period began; a whole history answers all of it itself.

A history may have a million events, an invoice a handful. So whoever drafts gives the events recorded since ``needed_since``,
and answers for the few older things that these name: charges that were refunded, top-ups that a bank took back, plans.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from domain.account.events import (
    CHARGES,
    AccountOpened,
    Charge,
    CreditsToppedUp,
    PlanAssigned,
    PlanTerms,
    RecordedEvent,
)
from domain.account.index import TopUp
from domain.account.limiting import AHEAD_MAX
from domain.invoices.assigning import Books, RunningBooks


def needed_since(period_start: datetime) -> datetime:
    """Events recorded at this instant or later, up to the period's close, are all that may be on its invoice.

    Usage may occur minutes after it was recorded, by clocks that differ; by more than this, and its invoice would not tie.
    """
    return period_start - AHEAD_MAX


class History(Protocol):
    """One team's older past, as far as an invoice asks for it."""

    @property
    def team_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def books(self) -> Books:
        """The periods of the team's books."""
        ...

    def charges(self, charge_ids: Collection[str]) -> Mapping[str, Charge]:
        """The charges of these ids, each of which exists; asked for those that were refunded, a portion at a time."""
        ...

    def top_ups(self, payment_references: Collection[str]) -> Mapping[str, TopUp]:
        """The settled top-ups of these references, each of which exists."""
        ...

    def plan(self, plan_id: str, version: int) -> PlanTerms:
        """The terms of a plan that the team once had."""
        ...


class WholeHistory:
    """A history that is in memory as a whole, from the event that opened the account."""

    def __init__(self, events: Iterable[RecordedEvent]) -> None:
        self._events = list(events)
        self._plans: dict[tuple[str, int], PlanTerms] = {}
        self._top_ups: dict[str, TopUp] = {}
        running = RunningBooks(_opening(self._events))
        for recorded in self._events:
            running.learn(recorded)
            self._learn(recorded)
        self._team_id, self._books = running.account.team_id, running.books

    @property
    def team_id(self) -> str:
        """Whose it is."""
        return self._team_id

    @property
    def books(self) -> Books:
        """The periods of the team's books, as its events have them."""
        return self._books

    def charges(self, charge_ids: Collection[str]) -> Mapping[str, Charge]:
        """The charges of these ids."""
        wanted = set(charge_ids)
        if not wanted:
            return {}
        charges = (each.event for each in self._events if isinstance(each.event, CHARGES))
        return {charge.charge_id: charge for charge in charges if charge.charge_id in wanted}

    def top_ups(self, payment_references: Collection[str]) -> Mapping[str, TopUp]:
        """The settled top-ups of these references."""
        return {reference: self._top_ups[reference] for reference in payment_references}

    def plan(self, plan_id: str, version: int) -> PlanTerms:
        """The terms of a plan that the team once had."""
        return self._plans[plan_id, version]

    def _learn(self, recorded: RecordedEvent) -> None:
        event = recorded.event
        if isinstance(event, PlanAssigned):
            self._plans[event.plan.plan_id, event.plan.version] = event.plan
        elif isinstance(event, CreditsToppedUp):
            basis, lot_id, version = event.lot.cost_basis, event.lot.lot_id, recorded.originator_version
            top_up = TopUp("settled", version, event.amount_micros, basis, lot_id)
            self._top_ups[event.payment_reference] = top_up


def _opening(events: list[RecordedEvent]) -> AccountOpened:
    if not events or not isinstance(events[0].event, AccountOpened):
        raise ValueError(
            "a whole history begins with the event that opened the account: give a History for a part of one"
        )
    return events[0].event
