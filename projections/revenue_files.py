"""Deferred revenue as files: a table, and a journal of money that hledger and ledger check by themselves.

Amounts are whole minor units, one commodity for each currency (``EURMINOR``), so nothing is rounded by whoever adds them up. The
journal has one entry for each row, dated to the last day of the month that names it, and asserts the balance of every account
after it; credits sold are an asset until whoever keeps the books says where the money went.
"""

from __future__ import annotations

import csv
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Iterator
from io import StringIO

from projections.books_names import name_part
from projections.revenue import RollForward

REVENUE_COLUMNS = (
    "issuer_id",
    "currency",
    "period",
    "opening_minor",
    "sold_minor",
    "used_minor",
    "breakage_minor",
    "refunded_minor",
    "closing_minor",
)
_ABOUT = """\
Deferred revenue of a credits ledger. Check it with: hledger -f FILE check --strict
Amounts are whole minor units without tax: 100 EURMINOR are one euro.
Every entry is one row of the roll-forward: sold to Assets:Sold, refunded out of it, used and breakage to Income.
Each posting asserts the balance after it; that of Liabilities:Deferred is the row's closing."""


def revenue_csv(rows: Iterable[RollForward]) -> Iterator[str]:
    """The rows as lines of a table (RFC 4180), each with its end, after one with the names of the columns."""
    yield _written(list(REVENUE_COLUMNS))
    for row in rows:
        named = {"period": row.label}
        yield _written([str(named.get(name) or getattr(row, name)) for name in REVENUE_COLUMNS])


def revenue_journal(rows: Iterable[RollForward]) -> Iterator[str]:
    """The lines of the journal, each without its end; ``rows`` as ``projections.revenue.rolled_forward`` gives them."""
    rows = sorted(rows, key=lambda row: (row.label, row.issuer_id, row.currency))
    yield from (f"; {line}" for line in _ABOUT.splitlines())
    yield ""
    yield from (f"commodity {currency}MINOR" for currency in sorted({row.currency for row in rows}))
    names = {name for row in rows for name, _ in _postings(row)}
    yield from (f"account {name}" for name in sorted(names))
    balances: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        yield from _entry(row, balances)


def _entry(row: RollForward, balances: dict[tuple[str, str], int]) -> Iterator[str]:
    deferred = f"Liabilities:Deferred:{name_part(row.issuer_id)}"
    yield ""
    yield f"{_last_day(row.label)} ({row.label}) {row.issuer_id} | deferred revenue"
    for name, change in _postings(row):
        balances[name, row.currency] += change
        # The liability's claim is the row's own closing, made without these postings.
        claimed = -row.closing_minor if name == deferred else balances[name, row.currency]
        yield f"    {name}  {change} {row.currency}MINOR = {claimed} {row.currency}MINOR"


def _postings(row: RollForward) -> list[tuple[str, int]]:
    issuer = name_part(row.issuer_id)
    flow = row.sold_minor - row.used_minor - row.breakage_minor - row.refunded_minor
    return [
        (f"Assets:Sold:{issuer}", row.sold_minor - row.refunded_minor),
        (f"Income:Used:{issuer}", -row.used_minor),
        (f"Income:Breakage:{issuer}", -row.breakage_minor),
        (f"Liabilities:Deferred:{issuer}", -flow),
    ]


def _last_day(label: str) -> str:
    year, month = int(label[:4]), int(label[5:])
    return f"{label}-{monthrange(year, month)[1]:02}"


def _written(cells: list[str]) -> str:
    into = StringIO()
    csv.writer(into).writerow(cells)
    return into.getvalue()
