"""Voids and credit notes say what they take off, and no document is made that the events do not bear out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.account.events import (
    CreditNoteIssued,
    CreditNoteLine,
    InvoiceIssued,
    InvoiceVoided,
    RecordedEvent,
)
from domain.errors import UnknownEventShape
from domain.invoices.corrections import (
    credit_note_document,
    derive_credit_note,
    derive_void,
    digest_of,
    void_document,
)
from domain.invoices.document import canonical_invoice, read_invoice
from domain.invoices.drafting import derive
from domain.invoices.sorting import NotTied
from domain.issuer.numbering import Drawn
from tests.builders import when
from tests.domain.invoices.golden_stories import SELLER, stored_events

AT = when("2026-12-24 12:00")
DRAWN = Drawn(msgspec.structs.replace(SELLER, name="Renamed since"), 2, 2026, 9, "CO-2026-000009")


def a_story() -> tuple[list[RecordedEvent], InvoiceIssued, InvoiceVoided, CreditNoteIssued]:
    events = stored_events("void_and_credit_note")
    issued, voided, _, note = (each.event for each in events[-4:])
    assert isinstance(issued, InvoiceIssued)
    assert isinstance(voided, InvoiceVoided)
    assert isinstance(note, CreditNoteIssued)
    return events, issued, voided, note


def test_a_void_takes_off_exactly_what_the_invoice_comes_to() -> None:
    events, issued, voided, _ = a_story()
    invoice, void = derive(events, issued), derive_void("acme", issued, voided)

    assert (void.kind, void.corrects, void.reason) == ("void", invoice.number, "wrong customer")
    assert void.totals == invoice.totals
    assert sum(tax.tax_minor for tax in void.taxes) == sum(tax.tax_minor for tax in invoice.taxes)
    assert (void.issuer, void.customer) == (invoice.issuer, invoice.customer)
    assert (void.credits, void.lines, void.purchases) == (None, [], [])


def test_a_document_under_a_number_just_drawn_is_the_one_that_is_derived_from_its_event() -> None:
    """Whoever decides has no event yet; the digest that goes into it must be that of the document it leads to."""
    _, issued, voided, note = a_story()

    void = void_document("acme", DRAWN, issued, AT, "why", reissue=True)
    credit_note = credit_note_document("acme", DRAWN, issued, AT, "why", "EUR", note.lines)

    changes: dict[str, Any] = {"invoice": DRAWN.invoice, "recorded_at": AT, "reason": "why"}
    assert void == derive_void("acme", issued, msgspec.structs.replace(voided, **changes))
    assert credit_note == derive_credit_note("acme", issued, msgspec.structs.replace(note, **changes))
    assert digest_of(void) != digest_of(credit_note)


def test_a_credit_note_sums_its_lines_by_rate() -> None:
    _, issued, _, _ = a_story()
    lines = [
        CreditNoteLine(text="a", net_minor=100, tax_minor=19),
        CreditNoteLine(text="b", net_minor=200, tax_minor=38),
        CreditNoteLine(text="c", net_minor=50, tax_minor=0),
        CreditNoteLine(text="d", net_minor=10, tax_minor=3),
    ]

    note = credit_note_document("acme", DRAWN, issued, AT, None, "EUR", lines)

    assert [(tax.percent, tax.net_minor, tax.tax_minor) for tax in note.taxes] == [
        ("0", 50, 0),
        ("19", 300, 57),
        (None, 10, 3),
    ]
    (total,) = note.totals
    assert (total.net_minor, total.tax_minor, total.gross_minor, total.due_minor) == (360, 60, 420, 420)


def test_a_shape_that_this_code_does_not_write_is_refused() -> None:
    events, issued, voided, note = a_story()

    with pytest.raises(UnknownEventShape, match=r"coffer-invoice\.9"):
        derive(events, msgspec.structs.replace(issued, shape="coffer-invoice.9"))
    with pytest.raises(UnknownEventShape):
        derive_void("acme", issued, msgspec.structs.replace(voided, shape="coffer-invoice.9"))
    with pytest.raises(UnknownEventShape):
        derive_credit_note("acme", issued, msgspec.structs.replace(note, shape="coffer-invoice.9"))
    document = canonical_invoice(derive(events, issued))
    with pytest.raises(UnknownEventShape):
        read_invoice(document.replace(b"coffer-invoice.1", b"coffer-invoice.9"))
    with pytest.raises(UnknownEventShape, match="cannot be read"):
        read_invoice(document.replace(b'"lines"', b'"rows"'))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"opening_micros": 1}, "the one before closed with 1"),
        ({"closing_micros": 1}, "closed with 1 micro-credits"),
        ({"closed_version": 3}, "at version None"),
        ({"due": []}, "the money of invoice"),
    ],
)
def test_an_invoice_that_its_events_do_not_bear_out_is_not_derived(change: dict[str, Any], said: str) -> None:
    events, issued, _, _ = a_story()

    with pytest.raises(NotTied, match=said):
        derive(events, msgspec.structs.replace(issued, **change))
