"""How the documents of closed periods stand: which period waits for its invoice, what is due of an invoice that was issued."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from domain.account.events import MoneyDue
from domain.account.index import AccountIndex, ClosedPeriod, Document, InvoicedPeriod, InvoicePayment
from domain.times import parse_instant

InvoiceStatus = Literal["issued", "paid", "void", "uncollectible"]


class Uninvoiced(NamedTuple):
    """A closed period that waits for its invoice: as it was closed, what it begins with, how often it was voided before."""

    start: datetime
    end: datetime
    zone: str
    label: str
    closed_version: int
    opening_micros: int
    attempt: int


class Money(NamedTuple):
    """What became of the money of an invoice in one currency, in minor units."""

    gross_minor: int
    paid_minor: int
    credited_minor: int

    @property
    def due_minor(self) -> int:
        """What is still to be paid; never below zero."""
        return max(self.gross_minor - self.credited_minor - self.paid_minor, 0)


class InvoiceOnFile(msgspec.Struct, frozen=True):
    """An invoice as it stands: the version that issued it, its period, its status, and its money by currency.

    ``has_payments``: money came for it after it was issued.
    """

    invoice: str
    version: int
    period_start: datetime
    attempt: int
    status: InvoiceStatus
    money: dict[str, Money]
    has_payments: bool

    @property
    def due_minor(self) -> dict[str, int]:
        """What is still to be paid, by currency; none of those in which nothing is."""
        return {currency: money.due_minor for currency, money in self.money.items() if money.due_minor}


def oldest_uninvoiced(index: AccountIndex) -> Uninvoiced | None:
    """The oldest closed period that waits for its invoice, None when none does."""
    # There is one, or, after history was brought in, one for each of its months.
    waiting = list(index.latest("uninvoiced"))
    if not waiting:
        return None
    start, attempt = waiting[-1]
    entry = index.entry("period", start)
    assert entry is not None, f"the period of {start} waits for its invoice and was never closed"
    closed = msgspec.json.decode(entry, type=ClosedPeriod)
    return Uninvoiced(
        parse_instant(start, "period_start"),
        closed.end,
        closed.zone,
        closed.label,
        closed.closed_version,
        _opening(index, start),
        int(attempt),
    )


def _opening(index: AccountIndex, start: str) -> int:
    """The closing of the period before, which has its invoice when this one is the oldest without; 0 for the first."""
    for key, entry in index.latest("invoiced"):
        if key < start:
            return msgspec.json.decode(entry, type=InvoicedPeriod).closing_micros
    return 0


def invoice_on_file(index: AccountIndex, invoice: str) -> InvoiceOnFile | None:
    """The invoice of that number as it stands; None where the team has none, or another document has the number."""
    entry = index.entry("invoice", invoice)
    document = None if entry is None else msgspec.json.decode(entry, type=Document)
    if document is None or document.kind != "invoice":
        return None
    assert document.period_start is not None, f"invoice {invoice} has no period"
    parts = dict(index.latest("invoice", f"{invoice} "))
    money = {due.currency: _money(parts, invoice, due) for due in document.due}
    status = parts.get(f"{invoice} status")
    return InvoiceOnFile(
        invoice,
        document.version,
        document.period_start,
        document.attempt,
        "issued" if status is None else msgspec.json.decode(status, type=InvoiceStatus),
        money,
        any(f"{invoice} paid {currency}" in parts for currency in money),
    )


def _money(parts: dict[str, bytes], invoice: str, due: MoneyDue) -> Money:
    paid = int(parts.get(f"{invoice} paid {due.currency}", due.paid_minor))
    credited = int(parts.get(f"{invoice} credited {due.currency}", 0))
    return Money(due.gross_minor, paid, credited)


def invoice_payment(index: AccountIndex, payment_reference: str) -> InvoicePayment | None:
    """What the payment reference paid, None when it paid no invoice."""
    entry = index.entry("invoice_payment", payment_reference)
    return None if entry is None else msgspec.json.decode(entry, type=InvoicePayment)
