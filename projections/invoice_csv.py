"""An invoice as one table of text (RFC 4180), for spreadsheets and programs: each amount is a row of its own, exact.

``row`` says what a row tells: "credits" (opening to closing, by ``kind``), "line", "adjustment" (``period`` names the one it
corrects), "purchase", "tax", "total", "note" (of a void or a credit note). Credits, quantities and unit prices are decimal
strings, money is minor units; the columns that a row has nothing to say in are empty. Text that a spreadsheet would run as a
formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO

from domain.invoices.document import Adjustment, Invoice, Line

COLUMNS = (
    "invoice",
    "row",
    "line",
    "kind",
    "period",
    "action",
    "project",
    "member",
    "card",
    "card_version",
    "charges",
    "quantities",
    "unit_meter",
    "unit_price",
    "is_average",
    "credits",
    "description",
    "reference",
    "at",
    "currency",
    "tax_percent",
    "net_minor",
    "tax_minor",
    "gross_minor",
    "paid_minor",
    "due_minor",
    "is_paid",
)

TEXTS = frozenset(
    {"invoice", "action", "project", "member", "card", "description", "reference", "quantities", "unit_meter"}
)
"""The columns that may hold what somebody else wrote; in the others a leading minus is a number's."""

# The last four are the same signs in full width, which some spreadsheets read as these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Cell = str | int | bool | None


def invoice_csv(invoice: Invoice) -> Iterator[str]:
    """The lines of the table, each with its end (CR LF), after one with the names of the columns."""
    yield _written(list(COLUMNS))
    for row in _rows(invoice):
        cells: dict[str, Cell] = {"invoice": invoice.number or "draft", "period": invoice.period.label, **row}
        yield _written([_shown(name, cells.get(name)) for name in COLUMNS])


def safe_text(text: str) -> str:
    """The text as a cell that no spreadsheet runs: what begins like a formula gets an apostrophe before it."""
    return "'" + text if text.startswith(_FORMULA) else text


def _rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    if invoice.credits is not None:
        for kind in invoice.credits.__struct_fields__:
            yield {"row": "credits", "kind": kind, "credits": getattr(invoice.credits, kind)}
    for line in invoice.lines:
        yield {
            **_used("line", line),
            "unit_meter": line.unit_meter,
            "unit_price": line.unit_price,
            "is_average": line.is_average,
        }
    for each in invoice.adjustments:
        yield {**_used("adjustment", each), "period": each.period_label}
    yield from _money(invoice)


def _used(row: str, line: Line | Adjustment) -> dict[str, Cell]:
    return {
        "row": row,
        "line": line.line,
        "kind": line.kind,
        "action": line.action,
        "project": line.project,
        "member": line.member,
        "card": line.card,
        "card_version": line.card_version,
        "charges": line.charges,
        "quantities": "; ".join(f"{meter}={quantity}" for meter, quantity in line.quantities.items()),
        "credits": line.amount,
    }


def _money(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    for purchase in invoice.purchases:
        names = ("kind", "description", "reference", "at", "credits", "is_paid", *_AMOUNTS, "tax_percent")
        yield {"row": "purchase", **{name: getattr(purchase, name) for name in names}}
    for note in invoice.note_lines:
        amounts = {name: getattr(note, name) for name in (*_AMOUNTS, "tax_percent")}
        yield {"row": "note", "kind": invoice.kind, "description": note.text, **amounts}
    for tax in invoice.taxes:
        yield {
            "row": "tax",
            "currency": tax.currency,
            "tax_percent": tax.percent,
            "net_minor": tax.net_minor,
            "tax_minor": tax.tax_minor,
        }
    for total in invoice.totals:
        yield {
            "row": "total",
            **{name: getattr(total, name) for name in (*_AMOUNTS, "paid_minor", "due_minor")},
        }


_AMOUNTS = ("currency", "net_minor", "tax_minor", "gross_minor")


def _shown(name: str, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    text = str(cell)
    return safe_text(text) if name in TEXTS else text


def _written(cells: list[str]) -> str:
    into = StringIO()
    csv.writer(into).writerow(cells)
    return into.getvalue()
