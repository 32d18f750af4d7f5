"""Documents that were issued, kept byte for byte: each can be printed, shown and, where the standard can say it, sent."""

from __future__ import annotations

import io
from pathlib import Path

import pypdf
import pytest

from domain.invoices.document import read_invoice
from infra.forms.invoices import invoice_html, printed_invoice
from tests.infra.forms.business_rules import broken_rules

GOLDEN = sorted((Path(__file__).resolve().parents[2] / "domain" / "invoices" / "golden").glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_was_issued_can_be_printed_and_carries_the_bytes_that_were_issued(path: Path) -> None:
    issued = path.read_bytes().strip()
    printed = printed_invoice(read_invoice(issued))

    attached = pypdf.PdfReader(io.BytesIO(printed.pdf), strict=True).attachments
    assert attached["invoice.json"] == [issued]
    assert invoice_html(read_invoice(issued)).startswith(b"<!doctype html>")
    assert (printed.xml is None) == (printed.no_xml_because is not None)
    if printed.xml is not None:
        assert broken_rules(printed.xml) == []


def test_there_are_documents_to_print() -> None:
    assert len(GOLDEN) >= 5
