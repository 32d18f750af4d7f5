"""The forms of an invoice, a void or a credit note: what everybody else asks this room for."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from domain.invoices.document import Invoice, canonical_invoice
from domain.times import parse_instant
from infra.forms.einvoice import NotAnInvoiceForMachines, invoice_xml
from infra.forms.invoice_sheets import invoice_sheet
from infra.forms.pages import html_page
from infra.forms.press import press

DATA_NAME = "invoice.json"
"""What the canonical JSON is called inside the PDF."""


class PrintedInvoice(NamedTuple):
    """A PDF; the Factur-X XML that it carries, or why it carries none."""

    pdf: bytes
    xml: bytes | None
    no_xml_because: str | None


def invoice_html(invoice: Invoice, locale: str | None = None) -> bytes:
    """The document as an HTML page in its customer's locale, or in another one."""
    return html_page(invoice_sheet(invoice, locale))


def printed_invoice(invoice: Invoice, locale: str | None = None) -> PrintedInvoice:
    """The document as PDF/A-3b with its canonical JSON and, where the standard can say it, its Factur-X XML attached.

    The same document gives the same bytes: the file is dated to the day of issue, a draft to the start of its period.
    """
    xml, reason = _xml(invoice)
    pdf = press().pdf(
        invoice_sheet(invoice, locale),
        _dated(invoice),
        data=canonical_invoice(invoice),
        data_name=DATA_NAME,
        invoice_xml=xml,
    )
    return PrintedInvoice(pdf, xml, reason)


def _xml(invoice: Invoice) -> tuple[bytes | None, str | None]:
    try:
        return invoice_xml(invoice), None
    except NotAnInvoiceForMachines as error:
        return None, str(error)


def _dated(invoice: Invoice) -> datetime:
    if invoice.issued_at is not None:
        return parse_instant(invoice.issued_at, "issued_at")
    return parse_instant(invoice.period.start, "period.start")
