"""Documents that correct an invoice: its voiding, which takes all of it off, and a credit note, which takes money off it.

Both follow from the event that issued the invoice and from what the correction says; no other event of the team is read. Issuer
and customer are those of the invoice. Amounts are what they take off, above zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from domain.account.events import CreditNoteIssued, CreditNoteLine, InvoiceIssued, InvoiceVoided
from domain.invoices.document import (
    SHAPE,
    Invoice,
    InvoiceKind,
    NoteLine,
    Period,
    Total,
    invoice_digest,
    require_shape,
)
from domain.invoices.money import percent_of, taxes_of, total
from domain.invoices.parties import customer_of, seller_of
from domain.issuer.numbering import Drawn
from domain.times import instant_text

digest_of = invoice_digest


def void_document(
    team_id: str, drawn: Drawn, issued: InvoiceIssued, at: datetime, reason: str | None, reissue: bool
) -> Invoice:
    """The document that voids the invoice as of ``at``, in whole; with ``reissue`` its period is invoiced anew."""
    return _void(team_id, drawn.invoice, issued, at, reason, reissue)


def credit_note_document(
    team_id: str,
    drawn: Drawn,
    issued: InvoiceIssued,
    at: datetime,
    reason: str | None,
    currency: str,
    lines: Iterable[CreditNoteLine],
) -> Invoice:
    """The document that gives the money of the lines back as of ``at``."""
    return _credit_note(team_id, drawn.invoice, issued, at, reason, currency, lines)


def derive_void(team_id: str, issued: InvoiceIssued, voided: InvoiceVoided) -> Invoice:
    """The document that the event issued, from it and the event of the invoice it voids: the same bytes for ever.

    Raises: UnknownEventShape for a newer shape.
    """
    require_shape(voided.shape)
    return _void(team_id, voided.invoice, issued, voided.recorded_at, voided.reason, voided.reissue)


def derive_credit_note(team_id: str, issued: InvoiceIssued, note: CreditNoteIssued) -> Invoice:
    """As ``derive_void``, of a credit note."""
    require_shape(note.shape)
    return _credit_note(
        team_id, note.invoice, issued, note.recorded_at, note.reason, note.currency, note.lines
    )


def _void(
    team_id: str, number: str, issued: InvoiceIssued, at: datetime, reason: str | None, reissue: bool
) -> Invoice:
    anew = "; its period is invoiced anew" if reissue else ""
    lines = [
        _note_line(
            issued, f"Invoice {issued.invoice} is void{anew}", due.currency, due.net_minor, due.tax_minor
        )
        for due in issued.due
    ]
    totals = [total(due.currency, due.net_minor, due.tax_minor, due.paid_minor) for due in issued.due]
    return _correction("void", team_id, number, issued, at, reason, lines, totals)


def _credit_note(
    team_id: str,
    number: str,
    issued: InvoiceIssued,
    at: datetime,
    reason: str | None,
    currency: str,
    lines: Iterable[CreditNoteLine],
) -> Invoice:
    told = [_note_line(issued, line.text, currency, line.net_minor, line.tax_minor) for line in lines]
    sums = total(currency, sum(line.net_minor for line in told), sum(line.tax_minor for line in told), 0)
    return _correction("credit_note", team_id, number, issued, at, reason, told, [sums])


def _note_line(issued: InvoiceIssued, text: str, currency: str, net_minor: int, tax_minor: int) -> NoteLine:
    return NoteLine(
        text=text,
        currency=currency,
        tax_percent=percent_of(net_minor, tax_minor, issued.issuer.tax_percent),
        net_minor=net_minor,
        tax_minor=tax_minor,
        gross_minor=net_minor + tax_minor,
    )


def _correction(
    kind: InvoiceKind,
    team_id: str,
    number: str,
    issued: InvoiceIssued,
    at: datetime,
    reason: str | None,
    lines: Sequence[NoteLine],
    totals: list[Total],
) -> Invoice:
    return Invoice(
        shape=SHAPE,
        kind=kind,
        number=number,
        issued_at=instant_text(at),
        version=issued.closed_version,
        team=team_id,
        issuer=seller_of(issued.issuer),
        customer=customer_of(issued.customer),
        period=Period(
            label=issued.label,
            start=instant_text(issued.period_start),
            end=instant_text(issued.period_end),
            zone=None,
        ),
        credits=None,
        lines=[],
        adjustments=[],
        purchases=[],
        taxes=taxes_of([(line.currency, line.tax_percent, line.net_minor, line.tax_minor) for line in lines]),
        totals=totals,
        cards=[],
        corrects=issued.invoice,
        reason=reason,
        note_lines=list(lines),
    )
