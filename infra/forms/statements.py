"""A statement of account for a range of time, with the balances before and after: CSV for machines, PDF and HTML for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from domain.amounts import format_credits
from domain.times import instant_text
from infra.forms.fonts import families, lacks
from infra.forms.locales import MINUS, Writing, locale_of
from infra.forms.pages import html_page
from infra.forms.press import press
from infra.forms.sheets import Cell, Column, Fact, PartyBlock, Row, Sheet, Table, cell
from infra.forms.usage_tables import DASH, aligned
from infra.forms.words import Words, words_of
from projections.invoice_csv import safe_text
from projections.statement import DIRECTIONS, StatementKind, StatementRow

PRINTED_ROWS_MAX = 5_000
"""More rows are no document for a person, and would take more than a gigabyte to set: they are asked for as CSV."""

COLUMNS = (
    "version",
    "kind",
    "recorded_at",
    "occurred_at",
    "change",
    "balance_after",
    "settled_after",
    "debt_after",
    "held_after",
    "action",
    "member",
    "project",
    "work",
    "step",
    "charge_id",
    "lot_id",
    "hold_id",
    "actor",
    "role",
    "reason",
)
"""Of the CSV. ``change`` is what the row did to the balance, ``balance_after`` settled credits less debt."""

_CHUNK_BYTES = 65_536


class TooLongToPrint(ValueError):
    """So many rows are no document for a person: the text says how many there may be, and to ask for CSV."""


class StatementHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement covers: start included, end excluded, by ``recorded_at``; and the sums before and after its rows.

    ``version`` is that of the team's stream up to which was counted, ``made_at`` when. ``issuer`` and ``customer`` are names.
    """

    team_id: str
    since: datetime
    until: datetime
    zone: str
    opening_settled_micros: int
    opening_debt_micros: int
    closing_settled_micros: int
    closing_debt_micros: int
    version: int
    made_at: datetime
    locale: str | None = None
    issuer: str | None = None
    customer: str | None = None


def statement_csv(header: StatementHeader, rows: Iterable[StatementRow]) -> Iterator[bytes]:
    """The statement as CSV (RFC 4180, UTF-8), piece by piece: the opening balance, a row for every entry, the closing balance.

    Amounts are decimal strings of credits with up to six places. A text that a spreadsheet would take for a formula has an
    apostrophe before it.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerow(
        _balance("OpeningBalance", header.since, header.opening_settled_micros, header.opening_debt_micros)
    )
    for row in rows:
        writer.writerow(_entry(row))
        if buffer.tell() >= _CHUNK_BYTES:
            yield _taken(buffer)
    writer.writerow(
        _balance("ClosingBalance", header.until, header.closing_settled_micros, header.closing_debt_micros)
    )
    yield _taken(buffer)


def statement_pdf(header: StatementHeader, rows: Sequence[StatementRow]) -> bytes:
    """The statement as PDF/A-3b, dated to ``made_at``, with the CSV attached. Raises: TooLongToPrint."""
    sheet = _sheet(header, rows)
    data = b"".join(statement_csv(header, rows))
    return press().pdf(sheet, header.made_at, data=data, data_name="statement.csv", data_type="text/csv")


def statement_html(header: StatementHeader, rows: Sequence[StatementRow]) -> bytes:
    """The statement as an HTML page. Raises: TooLongToPrint."""
    return html_page(_sheet(header, rows))


def change_micros(row: StatementRow) -> int:
    """What a row did to settled credits less debt, with its sign; 0 for what moves within."""
    kind: StatementKind | None = next((known for known in DIRECTIONS if known == row.kind), None)
    return DIRECTIONS[kind] * row.amount_micros if kind is not None else 0


def _entry(row: StatementRow) -> tuple[str | int, ...]:
    return (
        row.version,
        row.kind,
        instant_text(row.recorded_at),
        instant_text(row.occurred_at),
        format_credits(change_micros(row)),
        format_credits(row.settled_after_micros - row.debt_after_micros),
        format_credits(row.settled_after_micros),
        format_credits(row.debt_after_micros),
        format_credits(row.held_after_micros),
        *(
            safe_text(text or "")
            for text in (
                row.action,
                row.member,
                row.project,
                row.work,
                row.step,
                row.charge_id,
                row.lot_id,
                row.hold_id,
                row.actor_id,
                row.actor_role,
                row.reason,
            )
        ),
    )


def _balance(kind: str, at: datetime, settled_micros: int, debt_micros: int) -> tuple[str, ...]:
    """A balance as a row: at the instant, with no change."""
    sums = (settled_micros - debt_micros, settled_micros, debt_micros)
    told = ("", kind, instant_text(at), instant_text(at), "0", *(format_credits(micros) for micros in sums))
    return (*told, *([""] * (len(COLUMNS) - len(told))))


def _taken(buffer: io.StringIO) -> bytes:
    piece = buffer.getvalue().encode()
    buffer.seek(0)
    buffer.truncate()
    return piece


def _sheet(header: StatementHeader, rows: Sequence[StatementRow]) -> Sheet:
    if len(rows) > PRINTED_ROWS_MAX:
        raise TooLongToPrint(
            f"{len(rows)} rows: a statement of at most {PRINTED_ROWS_MAX} is printed; ask for a shorter range, or for CSV"
        )
    writing = Writing(locale_of(header.locale))
    words = words_of(writing.locale)
    said = " ".join(_names_in(header, rows))
    closing = header.closing_settled_micros - header.closing_debt_micros
    opening = header.opening_settled_micros - header.opening_debt_micros
    return Sheet(
        language=words.language,
        direction=words.direction,
        region=writing.locale.territory or "",
        paper=writing.paper,
        families=families(writing.locale.language, writing.locale.territory, said),
        title=words("statement"),
        number="",
        mark="",
        notices=(),
        issuer=PartyBlock(label=words("from"), name=header.issuer or DASH),
        customer=PartyBlock(label=words("team"), name=header.customer or header.team_id),
        facts=tuple(_facts(header, words, writing)),
        figures=(
            Fact(words("opening_settled"), writing.number(format_credits(opening))),
            Fact(words("closing_settled"), writing.number(format_credits(closing))),
        ),
        tables=[_table(header, rows, words, writing)],
        small=(words("lacking"),) if lacks(said) else (),
        page=words("page"),
        author=header.issuer or header.team_id,
    )


def _facts(header: StatementHeader, words: Words, writing: Writing) -> Iterator[Fact]:
    yield Fact(words("from_to"), writing.days(header.since, header.until, header.zone))
    yield Fact(words("zone"), header.zone)
    yield Fact(words("team"), header.team_id)
    yield Fact(words("made_at"), writing.moment(header.made_at, header.zone))


def _table(header: StatementHeader, rows: Sequence[StatementRow], words: Words, writing: Writing) -> Table:
    changes = [format_credits(change_micros(row)) for row in rows]
    balances = [
        format_credits(header.opening_settled_micros - header.opening_debt_micros),
        *(format_credits(row.settled_after_micros - row.debt_after_micros) for row in rows),
        format_credits(header.closing_settled_micros - header.closing_debt_micros),
    ]
    changed, balanced = aligned(changes, writing), aligned(balances, writing)
    shown: list[Row] = [
        _balance_row(writing.moment(header.since, header.zone), words("opening_settled"), balanced[0])
    ]
    for place, row in enumerate(rows):
        shown.append(
            (
                cell(writing.moment(row.occurred_at, header.zone)),
                cell(words(row.kind) if words.has(row.kind) else row.kind, row.reason or ""),
                cell(row.action or DASH, row.project or ""),
                cell(row.member or row.actor_id),
                _signed(changed[place], change_micros(row)),
                balanced[place + 1],
            )
        )
    columns = (
        Column(words("date")),
        Column(words("entry"), share=4),
        Column(words("action"), share=4),
        Column(words("member"), share=3),
        Column(words("change"), is_number=True),
        Column(words("balance"), is_number=True),
    )
    foot = [_balance_row(writing.moment(header.until, header.zone), words("closing_settled"), balanced[-1])]
    return Table(title=words("entries"), columns=columns, rows=shown, foot=foot)


def _balance_row(at: str, label: str, balance: Cell) -> Row:
    return (cell(at), cell(label), Cell(), Cell(), Cell(), balance)


def _signed(shown: Cell, micros: int) -> Cell:
    assert micros <= 0 or not shown.lines[0].startswith(MINUS)
    return Cell((f"+{shown.lines[0]}",), padding=shown.padding) if micros > 0 else shown


def _names_in(header: StatementHeader, rows: Sequence[StatementRow]) -> Iterator[str]:
    """All texts that somebody else wrote, for the choice of fonts."""
    for text in (header.team_id, header.issuer, header.customer):
        if text:
            yield text
    for row in rows:
        for text in (row.action, row.project, row.member, row.reason):
            if text and not text.isascii():
                yield text
