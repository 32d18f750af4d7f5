"""What was used: a row for every line of an invoice, and for every line that adjusts a period closed before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from typing import TypeVar

import msgspec

from domain.amounts import MICROS_PER_CREDIT, format_credits
from domain.invoices.document import Adjustment, Line
from infra.forms.locales import Writing
from infra.forms.sheets import Cell, Column, Row, Table, cell
from infra.forms.words import Words

DASH = "–"

Shown = TypeVar("Shown", Line, Adjustment)

_DIGITS = 60
_QUANTITY_CHARACTERS = 26
"""A longer quantity shares the width with the names instead of taking what it needs."""


LINES_MAX = 1_500
"""So many lines are shown each; more are summed by action and rate, so that a page is set in a second and bounded memory."""


def usage_table(lines: Sequence[Line], words: Words, writing: Writing) -> Table:
    """The lines of the period with what was counted, the price of one, and their exact sum."""
    note = _summed_note(lines, words, writing)
    lines = summed_by_rate(lines)
    amounts = aligned([line.amount for line in lines], writing)
    rows = [
        (*_counted(line, _notes(line, words), writing), _unit_price(line, words, writing), amount)
        for line, amount in zip(lines, amounts, strict=True)
    ]
    columns = (
        *_columns([row[4] for row in rows], words),
        Column(words("unit_price"), is_number=True),
        Column(words("credits"), is_number=True),
    )
    foot = [_sum_row(lines, 5, words, writing)]
    return Table(title=words("usage"), columns=columns, rows=rows, foot=foot, note=note)


def adjustments_table(lines: Sequence[Adjustment], words: Words, writing: Writing) -> Table:
    """The lines that adjust earlier periods, each naming its period, and their exact sum."""
    notes = [words("adjustments_note"), _summed_note(lines, words, writing)]
    lines = summed_by_rate(lines)
    amounts = aligned([line.amount for line in lines], writing)
    rows = [
        (*_counted(line, [line.period_label, *_notes(line, words)], writing), amount)
        for line, amount in zip(lines, amounts, strict=True)
    ]
    columns = (*_columns([row[4] for row in rows], words), Column(words("credits"), is_number=True))
    return Table(
        title=words("adjustments"),
        columns=columns,
        rows=rows,
        foot=[_sum_row(lines, 4, words, writing)],
        note=" ".join(note for note in notes if note),
    )


def summed_by_rate(lines: Sequence[Shown]) -> Sequence[Shown]:
    """The lines as they are; more than can be shown each as one for every kind, action, rate card and period, in order."""
    if len(lines) <= LINES_MAX:
        return lines
    groups: dict[tuple[object, ...], list[Shown]] = {}
    for line in lines:
        period = getattr(line, "period_label", None)
        groups.setdefault((period, line.kind, line.action, line.card, line.card_version), []).append(line)
    return [_one(group) for group in groups.values()]


def aligned(texts: Sequence[str], writing: Writing) -> list[Cell]:
    """Decimal strings of one column in a locale, each with the zeros that stand unseen after it so that the points align."""
    places = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [Cell((writing.number(text),), padding=writing.padding(text, places)) for text in texts]


def sum_of_credits(texts: Iterable[str]) -> str:
    """The exact sum of decimal strings of credits, each with or without a minus sign."""
    return format_credits(sum(_micros(text) for text in texts))


def _one(group: Sequence[Shown]) -> Shown:
    quantities: dict[str, Decimal] = {}
    with localcontext() as exact:
        exact.prec = _DIGITS
        for line in group:
            for meter, text in line.quantities.items():
                quantities[meter] = quantities.get(meter, Decimal(0)) + Decimal(text)
    changes: dict[str, object] = {
        "project": None,
        "member": None,
        "charges": sum(line.charges for line in group),
        "quantities": {meter: _plain(quantity) for meter, quantity in sorted(quantities.items())},
        "amount": sum_of_credits(line.amount for line in group),
    }
    if len({getattr(line, "unit_price", None) for line in group}) > 1:
        changes |= {"unit_price": None, "is_average": False}
    return msgspec.structs.replace(group[0], **changes)


def _plain(quantity: Decimal) -> str:
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _summed_note(lines: Sequence[Line] | Sequence[Adjustment], words: Words, writing: Writing) -> str:
    return words("summed", count=writing.count(len(lines))) if len(lines) > LINES_MAX else ""


def _columns(quantities: Iterable[Cell], words: Words) -> tuple[Column, ...]:
    longest = max((len(text) for quantity in quantities for text in quantity.lines), default=0)
    return (
        Column(words("action"), share=4),
        Column(words("project"), share=4),
        Column(words("member"), share=4),
        Column(words("charges"), is_number=True),
        Column(words("quantity"), is_number=True, share=4 if longest > _QUANTITY_CHARACTERS else 0),
    )


def _notes(line: Line | Adjustment, words: Words) -> list[str]:
    kind = [words("refund")] if line.kind == "refund" else []
    return [*kind, *([f"{line.card} v{line.card_version}"] if line.card is not None else [])]


def _counted(line: Line | Adjustment, notes: list[str], writing: Writing) -> Row:
    meters = tuple(f"{writing.number(text)} {meter}" for meter, text in line.quantities.items())
    return (
        cell(line.action, " · ".join(notes)),
        cell(line.project or DASH),
        cell(line.member or DASH),
        cell(writing.count(line.charges)),
        Cell(meters or (DASH,)),
    )


def _unit_price(line: Line, words: Words, writing: Writing) -> Cell:
    if line.unit_price is None:
        return cell(DASH)
    return cell(writing.number(line.unit_price), words("average") if line.is_average else "")


def _sum_row(lines: Sequence[Line] | Sequence[Adjustment], empty: int, words: Words, writing: Writing) -> Row:
    amounts = [line.amount for line in lines]
    total = aligned([sum_of_credits(amounts), *amounts], writing)[0]
    return (cell(words("sum")), *([Cell()] * empty), total)


def _micros(text: str) -> int:
    sign, plain = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, places = plain.partition(".")
    return sign * (int(whole) * MICROS_PER_CREDIT + int(places.ljust(6, "0")))
