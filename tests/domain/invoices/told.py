"""What tests of invoices are told in: an account's events with their versions, and the draft of each of its periods."""

from __future__ import annotations

from collections.abc import Iterable

from domain.account.events import AccountEvent, PeriodClosed, RecordedEvent
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import Invoice
from domain.invoices.drafting import Draft, draft, open_drafts
from domain.invoices.reading import WholeHistory


def recorded(events: Iterable[AccountEvent]) -> list[RecordedEvent]:
    """The events with the versions they made."""
    return [RecordedEvent("acme", version, event) for version, event in enumerate(events, start=1)]


def closed_drafts(events: list[RecordedEvent]) -> list[Draft]:
    """What is on the invoice of each closed period, oldest first; each opens with what the one before closed with."""
    history = WholeHistory(events)
    drafts: list[Draft] = []
    for period in history.books.closed:
        opening = drafts[-1].closing_micros if drafts else 0
        drafts.append(draft(events, period, history, opening_micros=opening))
    return drafts


def all_drafts(events: list[RecordedEvent]) -> list[Draft]:
    """Every invoice and the drafts of the periods that are still open, oldest first."""
    return [*closed_drafts(events), *open_drafts(events)]


def documents(events: Iterable[AccountEvent]) -> dict[str, Invoice]:
    """The document of every period without its details, by label."""
    return {each.period.label: each.document() for each in all_drafts(recorded(events))}


def closes(events: Iterable[RecordedEvent]) -> list[BillingPeriod]:
    """The closed periods as the events alone say them."""
    return [
        BillingPeriod(
            each.event.period_start,
            each.event.period_end,
            each.event.zone,
            each.event.label,
            each.originator_version,
        )
        for each in events
        if isinstance(each.event, PeriodClosed)
    ]
