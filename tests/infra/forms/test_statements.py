"""A statement of account: the same sums as CSV, PDF and HTML, streamed, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pypdf
import pypdfium2
import pytest

from domain.amounts import MICROS_PER_CREDIT
from infra.forms.statements import (
    COLUMNS,
    PRINTED_ROWS_MAX,
    StatementHeader,
    TooLongToPrint,
    change_micros,
    statement_csv,
    statement_html,
    statement_pdf,
)
from projections.statement import StatementRow

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def a_row(number: int = 1, kind: str = "CreditsCharged", **changes: Any) -> StatementRow:
    """A charge of one credit, the n-th minute of November."""
    at = NOVEMBER + timedelta(minutes=number)
    row = StatementRow(
        shard=1,
        team_id="northlight",
        version=number,
        kind=kind,
        recorded_at=at,
        occurred_at=at,
        amount_micros=MICROS_PER_CREDIT,
        settled_after_micros=(100 - number) * MICROS_PER_CREDIT if number < 100 else 0,
        debt_after_micros=max(0, number - 100) * MICROS_PER_CREDIT,
        charge_id=f"usage-{number}",
        lot_id=None,
        action="image.generate",
        member="mara.k",
        project="titles",
        work=None,
        step=None,
        actor_id="ingest",
        actor_role="ingest",
        reason=None,
    )
    return row._replace(**changes)


def a_header(rows: list[StatementRow], **changes: Any) -> StatementHeader:
    last = rows[-1] if rows else None
    stated: dict[str, Any] = {
        "team_id": "northlight",
        "since": NOVEMBER,
        "until": datetime(2026, 12, 1, tzinfo=UTC),
        "zone": "Europe/London",
        "opening_settled_micros": 100 * MICROS_PER_CREDIT,
        "opening_debt_micros": 0,
        "closing_settled_micros": last.settled_after_micros if last else 100 * MICROS_PER_CREDIT,
        "closing_debt_micros": last.debt_after_micros if last else 0,
        "version": 9,
        "made_at": datetime(2026, 12, 2, 9, tzinfo=UTC),
        "locale": "en-GB",
        "issuer": "Luma Platform GmbH",
    }
    return StatementHeader(**(stated | changes))


def test_the_changes_lead_from_the_opening_to_the_closing_balance() -> None:
    rows = [a_row(number) for number in range(1, 31)]

    read = _read(statement_csv(a_header(rows), rows))

    assert (read[0]["kind"], read[-1]["kind"]) == ("OpeningBalance", "ClosingBalance")
    total = Decimal(read[0]["balance_after"]) + sum(Decimal(row["change"]) for row in read)
    assert total == Decimal(read[-1]["balance_after"]) == 70


def test_amounts_are_exact_decimal_strings_with_their_sign() -> None:
    row = a_row(
        amount_micros=1, settled_after_micros=99_999_999, debt_after_micros=5, held_after_micros=1_500_000
    )

    read = _read(statement_csv(a_header([row]), [row]))[1]

    assert read["change"] == "-0.000001"
    assert read["settled_after"] == "99.999999"
    assert read["debt_after"] == "0.000005"
    assert read["balance_after"] == "99.999994"
    assert read["held_after"] == "1.5"
    assert read["recorded_at"] == "2026-11-01T00:01:00.000000Z"


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("CreditsCharged", -1),
        ("ChargeRefunded", 1),
        ("CreditsHeld", 0),
        ("DebtRepaid", 0),
        ("CreditsToppedUp", 1),
        ("Newer", 0),
    ],
)
def test_a_change_has_the_direction_of_its_kind(kind: str, sign: int) -> None:
    assert change_micros(a_row(kind=kind)) == sign * MICROS_PER_CREDIT


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "=cmd|' /C calc'!A0"]
)
def test_a_text_is_never_a_formula(text: str) -> None:
    row = a_row(reason=text, member=text, project=text)

    read = _read(statement_csv(a_header([row]), [row]))[1]

    assert read["reason"] == read["member"] == read["project"] == "'" + text


def test_texts_with_quotes_commas_and_lines_stay_one_cell() -> None:
    row = a_row(reason='a, "b"\nc', member="株式会社")

    read = _read(statement_csv(a_header([row]), [row]))[1]

    assert read["reason"] == 'a, "b"\nc'
    assert read["member"] == "株式会社"


def test_csv_comes_in_pieces_before_the_last_row_is_read() -> None:
    seen = 0

    def rows() -> Iterator[StatementRow]:
        nonlocal seen
        for number in range(1, 5_001):
            seen = number
            yield a_row(number)

    pieces = statement_csv(a_header([a_row(5_000)]), rows())
    first = next(pieces)

    assert seen < 1_000
    assert first.startswith(",".join(COLUMNS).encode())
    assert max(len(piece) for piece in pieces) < 100_000
    assert seen == 5_000


def test_the_pdf_says_the_balances_and_every_entry_and_carries_the_csv() -> None:
    rows = [a_row(number) for number in range(1, 90)]
    pdf = statement_pdf(a_header(rows), rows)
    pages = [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf)]

    assert len(pages) >= 2
    assert "Statement of account" in pages[0]
    assert "Balance before the range" in pages[0]
    assert "Balance after the range" in pages[-1]
    assert all("Change" in page for page in pages)
    assert sum(page.count("image.generate") for page in pages) == 89
    attached = pypdf.PdfReader(io.BytesIO(pdf)).attachments
    assert attached["statement.csv"] == [b"".join(statement_csv(a_header(rows), rows))]
    assert statement_pdf(a_header(rows), rows) == pdf


def test_an_empty_range_has_its_two_balances() -> None:
    page = statement_html(a_header([]), []).decode()

    assert page.count(">100<") == 4
    assert "Balance before the range" in page


def test_too_many_entries_are_asked_for_as_csv() -> None:
    rows = [a_row(1)] * (PRINTED_ROWS_MAX + 1)

    with pytest.raises(TooLongToPrint, match="CSV"):
        statement_pdf(a_header(rows), rows)


def _read(pieces: Iterator[bytes]) -> list[dict[str, str]]:
    text = b"".join(pieces).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))
