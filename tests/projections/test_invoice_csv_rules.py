"""An invoice as a table: every amount of the document is in it, and nothing in it is run by a spreadsheet."""

from __future__ import annotations

import csv
from io import StringIO

import msgspec
import pytest

from domain.invoices.document import Invoice, read_invoice
from projections.invoice_csv import COLUMNS, TEXTS, invoice_csv, safe_text
from tests.domain.invoices.golden_stories import GOLDEN

DOCUMENTS = sorted(path.name for path in GOLDEN.glob("*.CO-*.json"))


def a_document(name: str) -> Invoice:
    return read_invoice((GOLDEN / name).read_bytes())


def table(invoice: Invoice) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO("".join(invoice_csv(invoice)), newline="")))


def of(rows: list[dict[str, str]], row: str, *names: str) -> list[tuple[str, ...]]:
    return [tuple(each[name] for name in names) for each in rows if each["row"] == row]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_amount_of_the_document_has_its_row(name: str) -> None:
    invoice = a_document(name)

    rows = table(invoice)

    if invoice.credits is not None:
        told = {row["kind"]: row["credits"] for row in rows if row["row"] == "credits"}
        assert told == msgspec.to_builtins(invoice.credits)
    assert of(rows, "line", "line", "credits") == [(str(line.line), line.amount) for line in invoice.lines]
    assert of(rows, "adjustment", "period", "credits") == [
        (each.period_label, each.amount) for each in invoice.adjustments
    ]
    assert of(rows, "purchase", "reference", "gross_minor") == [
        (each.reference, str(each.gross_minor)) for each in invoice.purchases
    ]
    assert of(rows, "note", "gross_minor") == [(str(each.gross_minor),) for each in invoice.note_lines]
    assert of(rows, "tax", "currency", "tax_minor") == [
        (each.currency, str(each.tax_minor)) for each in invoice.taxes
    ]
    assert of(rows, "total", "currency", "due_minor") == [
        (each.currency, str(each.due_minor)) for each in invoice.totals
    ]
    assert {row["invoice"] for row in rows} == {invoice.number}


def test_the_first_line_names_the_columns_and_every_line_has_them_all() -> None:
    lines = list(invoice_csv(a_document("everything.CO-2026-000001.json")))

    assert lines[0] == ",".join(COLUMNS) + "\r\n"
    assert {len(cells) for cells in csv.reader(lines)} == {len(COLUMNS)}


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_text_that_begins_like_a_formula_is_text(sign: str) -> None:
    invoice = a_document("small.CO-2026-000001.json")
    evil = msgspec.structs.replace(
        invoice.lines[0], member=f"{sign}cmd|' /C calc'!A0", project='a "quoted", name'
    )

    (row,) = [each for each in table(msgspec.structs.replace(invoice, lines=[evil])) if each["row"] == "line"]

    assert row["member"] == f"'{sign}cmd|' /C calc'!A0"
    assert row["project"] == 'a "quoted", name'


def test_a_number_below_zero_stays_a_number() -> None:
    rows = table(a_document("adjustments.CO-2026-000002.json"))

    assert of(rows, "adjustment", "kind", "credits") == [("usage", "12"), ("refund", "-17")]
    assert safe_text("-17") == "'-17"
    assert "credits" not in TEXTS


def test_a_name_in_any_script_is_written_as_it_is() -> None:
    rows = table(a_document("void_and_credit_note.CO-2026-000003.json"))

    assert of(rows, "line", "project") == [("映画",)]
