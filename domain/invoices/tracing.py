"""From a line of an invoice to its charges, and from a charge to its invoice and line: the same sorting, read the other way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from domain.account.events import Charge, ChargeRefunded, RecordedEvent
from domain.invoices.assigning import BillingPeriod, Books
from domain.invoices.document import Invoice, LineKind
from domain.invoices.lines import LineKey, line_key
from domain.invoices.reading import History
from domain.invoices.sorting import Sorting
from domain.times import parse_instant


class OnLine(NamedTuple):
    """What a line is made of: the event that charged or (``amount_micros`` below zero) gave back, and the charge."""

    version: int
    charge: Charge
    amount_micros: int
    refund_id: str | None


class Invoiced(NamedTuple):
    """Where a charge or refund is: the period whose invoice has it, the line, and the closed period that it serves, if any."""

    period: BillingPeriod
    line: LineKey
    earlier: BillingPeriod | None


def line_of(invoice: Invoice, number: int) -> LineKey | None:
    """What the charges on the line or adjustment of that number have in common; None when there is no such line."""
    for line in invoice.lines:
        if line.line == number:
            return LineKey(
                line.kind, line.action, line.project, line.member, line.card, line.card_version, None
            )
    for each in invoice.adjustments:
        if each.line == number:
            start = parse_instant(each.period_start, "period_start")
            return LineKey(
                each.kind, each.action, each.project, each.member, each.card, each.card_version, start
            )
    return None


def charges_of_line(
    events: Iterable[RecordedEvent],
    period: BillingPeriod,
    history: History,
    line: LineKey,
    *,
    until_version: int | None = None,
) -> Iterator[OnLine]:
    """What the line is made of, in the order of versions; its amounts sum to that of the line.

    ``events``, ``period`` and ``history`` as ``domain.invoices.drafting.draft`` has them.
    """
    for placed in Sorting(period, history, until_version).mine(events):
        charge, event = placed.charge, placed.recorded.event
        if charge is None:
            continue
        start = placed.earlier.start if placed.earlier else None
        version = placed.recorded.originator_version
        if isinstance(event, ChargeRefunded):
            if line_key(charge, "refund", start) == line:
                yield OnLine(version, charge, -event.amount_micros, event.refund_id)
        elif line_key(charge, "usage", start) == line:
            yield OnLine(version, charge, charge.amount_micros, None)


def invoice_of(charge: Charge, version: int, books: Books, *, is_refund: bool = False) -> Invoiced:
    """The period and line whose invoice has the charge of that version, or a refund of it that was recorded as that version."""
    served = books.period_of(charge.occurred_at)
    period = books.invoice_period(charge.occurred_at, version)
    earlier = served if served.start < period.start else None
    kind: LineKind = "refund" if is_refund else "usage"
    return Invoiced(period, line_key(charge, kind, earlier.start if earlier else None), earlier)
