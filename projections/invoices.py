"""A team's documents and their money: one row per event of a close, a document or a payment, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from domain.account.events import (
    AccountEvent,
    CreditNoteIssued,
    InvoiceIssued,
    InvoiceOmitted,
    InvoicePaid,
    InvoiceUncollectible,
    InvoiceVoided,
    MoneyDue,
    PeriodClosed,
    RecordedEvent,
)

INVOICE_SHAPE = 1
"""Counts up when a row of the same event would look different; a half-built table of another shape is built anew."""

InvoiceStatus = Literal["issued", "paid", "void", "uncollectible"]
DocumentKind = Literal["invoice", "void", "credit_note"]


class InvoiceRow(NamedTuple):
    """One row, in the order of the columns of ``invoice_entry``.

    ``kind`` is the event's name. ``document`` is the number of the document that the event issued; ``invoice`` the invoice that
    it is about, which of an issued invoice is the same. ``money`` is JSON: of each currency of the document ``net_minor``,
    ``tax_minor``, ``gross_minor`` and ``paid_minor``. ``amount_minor`` is that of a payment or credit note, ``over_minor`` what
    of a payment was too much.
    """

    shard: int
    team_id: str
    version: int
    kind: str
    recorded_at: datetime
    document: str | None
    invoice: str | None
    issuer_id: str | None
    year: int | None
    number: int | None
    period_start: datetime | None
    period_end: datetime | None
    label: str | None
    closed_version: int | None
    opening_micros: int | None
    closing_micros: int | None
    money: str
    digest: str | None
    payment_reference: str | None
    currency: str | None
    amount_minor: int | None
    over_minor: int | None
    actor_id: str
    actor_role: str
    reason: str | None


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """A document's money in one currency, in minor units, as it stands.

    ``paid_minor`` counts what was paid before and since it was issued, ``credited_minor`` what credit notes gave back.
    ``due_minor`` is what is left, 0 of a void invoice; ``over_minor`` what was paid beyond what was due.
    """

    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    paid_minor: int
    credited_minor: int
    due_minor: int
    over_minor: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A document and what became of it. ``status`` is that of an invoice; other documents have none.

    ``corrects``: the invoice that a void document or credit note is about. ``voided_by`` and ``credit_notes`` name those of an
    invoice. ``version`` is that of its event.
    """

    invoice: str
    kind: DocumentKind
    status: InvoiceStatus | None
    version: int
    issued_at: datetime
    issuer_id: str
    label: str | None
    period_start: datetime | None
    period_end: datetime | None
    opening_micros: int | None
    closing_micros: int | None
    money: list[Money]
    digest: str
    corrects: str | None
    voided_by: str | None
    credit_notes: list[str]


class InvoicePage(NamedTuple):
    """Documents, newest first, made of the log up to ``position``; whether there are more."""

    documents: list[Summary]
    position: int
    has_more: bool


class InvoiceView(Protocol):
    """Reads of the invoice read model."""

    def page(self, team_id: str, *, before: int | None = None, limit: int = 100) -> InvoicePage:
        """The team's documents, newest first, from the one before a version on."""
        ...

    def document(self, team_id: str, invoice: str) -> Summary | None:
        """One document by its number; None when the team has none such."""
        ...

    def entries(self, team_id: str, invoice: str) -> list[InvoiceRow]:
        """All that happened to an invoice, oldest first."""
        ...


# --- rows ---


def rows_of(recorded: RecordedEvent, shard: int, team_id: str) -> Iterable[InvoiceRow]:
    """The row that the event adds, if it is about a period's close, a document or its money."""
    make = _ROWS.get(type(recorded.event))
    if make is None:
        return ()
    return (_row(recorded, shard, team_id, make(recorded.event, recorded.originator_version)),)


_Fields = dict[str, object]
# What only some events say.
_OWN_FIELDS = InvoiceRow._fields[InvoiceRow._fields.index("document") : InvoiceRow._fields.index("actor_id")]


def _row(recorded: RecordedEvent, shard: int, team_id: str, fields: _Fields) -> InvoiceRow:
    event = recorded.event
    known = {**dict.fromkeys(_OWN_FIELDS), "money": "[]", **fields}
    return InvoiceRow._make(
        (
            shard,
            team_id,
            recorded.originator_version,
            type(event).__name__,
            event.recorded_at,
            *(known[name] for name in _OWN_FIELDS),
            event.actor.id,
            event.actor.role,
            event.reason,
        )
    )


def _closed(event: PeriodClosed, version: int) -> _Fields:
    return {
        "period_start": event.period_start,
        "period_end": event.period_end,
        "label": event.label,
        "closed_version": version,
    }


def _issued(event: InvoiceIssued, _: int) -> _Fields:
    return {
        **_document(event.invoice, event.invoice, event),
        "period_start": event.period_start,
        "period_end": event.period_end,
        "label": event.label,
        "closed_version": event.closed_version,
        "opening_micros": event.opening_micros,
        "closing_micros": event.closing_micros,
        "money": _money(event.due),
    }


def _omitted(event: InvoiceOmitted, _: int) -> _Fields:
    return {
        "period_start": event.period_start,
        "label": event.label,
        "closed_version": event.closed_version,
        "opening_micros": event.closing_micros,
        "closing_micros": event.closing_micros,
    }


def _paid(event: InvoicePaid, _: int) -> _Fields:
    return {
        "invoice": event.invoice,
        "payment_reference": event.payment_reference,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "over_minor": event.over_minor,
    }


def _voided(event: InvoiceVoided, _: int) -> _Fields:
    return _document(event.invoice, event.voided_invoice, event) | {"period_start": event.period_start}


def _uncollectible(event: InvoiceUncollectible, _: int) -> _Fields:
    return {"invoice": event.invoice}


def _credited(event: CreditNoteIssued, _: int) -> _Fields:
    net = sum(line.net_minor for line in event.lines)
    tax = sum(line.tax_minor for line in event.lines)
    due = MoneyDue(currency=event.currency, net_minor=net, tax_minor=tax, gross_minor=net + tax, paid_minor=0)
    return _document(event.invoice, event.corrected_invoice, event) | {
        "money": _money([due]),
        "currency": event.currency,
        "amount_minor": net + tax,
    }


def _document(
    document: str, invoice: str, event: InvoiceIssued | InvoiceVoided | CreditNoteIssued
) -> _Fields:
    return {
        "document": document,
        "invoice": invoice,
        "issuer_id": event.issuer_id,
        "year": event.year,
        "number": event.number,
        "digest": event.digest,
    }


def _money(due: Sequence[MoneyDue]) -> str:
    return msgspec.json.encode(due).decode()


_ROWS: dict[type[AccountEvent], Callable[[Any, int], _Fields]] = {
    PeriodClosed: _closed,
    InvoiceIssued: _issued,
    InvoiceOmitted: _omitted,
    InvoicePaid: _paid,
    InvoiceVoided: _voided,
    InvoiceUncollectible: _uncollectible,
    CreditNoteIssued: _credited,
}

INVOICE_EVENTS = tuple(_ROWS)
"""The events that add a row."""


# --- what became of a document ---

_KINDS: dict[str, DocumentKind] = {
    InvoiceIssued.__name__: "invoice",
    InvoiceVoided.__name__: "void",
    CreditNoteIssued.__name__: "credit_note",
}


def summary_of(row: InvoiceRow, about: Iterable[InvoiceRow] = ()) -> Summary:
    """The document of a row; ``about`` are all rows of its invoice, which tell what became of an invoice."""
    assert row.document is not None, f"version {row.version} issued no document"
    assert row.issuer_id is not None
    assert row.digest is not None
    kind = _KINDS[row.kind]
    later = [each for each in about if each.version > row.version] if kind == "invoice" else []
    voided_by = next((each.document for each in later if each.kind == InvoiceVoided.__name__), None)
    money = _standing(row, later, is_void=voided_by is not None)
    return Summary(
        invoice=row.document,
        kind=kind,
        status=_status(money, later, voided_by) if kind == "invoice" else None,
        version=row.version,
        issued_at=row.recorded_at,
        issuer_id=row.issuer_id,
        label=row.label,
        period_start=row.period_start,
        period_end=row.period_end,
        opening_micros=row.opening_micros,
        closing_micros=row.closing_micros,
        money=money,
        digest=row.digest,
        corrects=None if kind == "invoice" else row.invoice,
        voided_by=voided_by,
        credit_notes=[
            each.document
            for each in later
            if each.kind == CreditNoteIssued.__name__ and each.document is not None
        ],
    )


def _standing(row: InvoiceRow, later: Sequence[InvoiceRow], *, is_void: bool) -> list[Money]:
    return [
        _money_of(due, later, is_void=is_void, is_invoice=row.kind == InvoiceIssued.__name__)
        for due in msgspec.json.decode(row.money, type=list[MoneyDue])
    ]


def _money_of(due: MoneyDue, later: Sequence[InvoiceRow], *, is_void: bool, is_invoice: bool) -> Money:
    def told(kind: type[AccountEvent]) -> int:
        return sum(
            each.amount_minor or 0
            for each in later
            if each.kind == kind.__name__ and each.currency == due.currency
        )

    paid, credited = due.paid_minor + told(InvoicePaid), told(CreditNoteIssued)
    left = due.gross_minor - paid - credited
    return Money(
        currency=due.currency,
        net_minor=due.net_minor,
        tax_minor=due.tax_minor,
        gross_minor=due.gross_minor,
        paid_minor=paid,
        credited_minor=credited,
        due_minor=max(0, left) if is_invoice and not is_void else 0,
        over_minor=max(0, -left) if is_invoice else 0,
    )


def _status(money: Sequence[Money], later: Sequence[InvoiceRow], voided_by: str | None) -> InvoiceStatus:
    if voided_by is not None:
        return "void"
    if all(each.due_minor == 0 for each in money):
        return "paid"
    given_up = any(each.kind == InvoiceUncollectible.__name__ for each in later)
    return "uncollectible" if given_up else "issued"
