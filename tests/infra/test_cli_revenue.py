"""`coffer revenue` over PostgreSQL: the roll-forward of all teams or some, and a journal that other programs check."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.infra.test_cli import Coffer, bare, coffer

__all__ = ["bare", "coffer"]


@pytest.fixture
def sold(coffer: Coffer) -> Coffer:
    """Two teams that bought credits, one of which used a third and was given some of that back."""
    for team, price, currency in (("acme", "1000", "EUR"), ("beta", "700", "EUR"), ("beta", "90", "JPY")):
        if team == "beta" and currency == "EUR":
            assert coffer("account", "open", "beta").code == 0
        paid = ("--payment-reference", f"pay-{currency}", "--price-minor", price, "--currency", currency)
        assert coffer("topup", team, "300", *paid).code == 0
    hold = coffer("hold", "place", "beta", "image.generate", "--amount", "100", "-o", "json").json["hold_id"]
    charge = coffer("hold", "capture", "beta", hold, "100", "-o", "json").json["charge_id"]
    assert coffer("refund", "beta", charge, "--amount", "40", "--reason", "poor").code == 0
    return coffer


def test_the_teams_of_an_issuer_are_rolled_forward_together(sold: Coffer) -> None:
    rows = sold("revenue", "-o", "json").json

    told = [
        (row["currency"], row["opening_minor"], row["sold_minor"], row["used_minor"], row["closing_minor"])
        for row in rows
    ]
    assert told == [("EUR", 0, 1_700, 140, 1_560), ("JPY", 0, 90, 0, 90)]


def test_teams_can_be_asked_for_and_told_apart(sold: Coffer) -> None:
    one = list(csv.DictReader(io.StringIO(sold("revenue", "acme", "-o", "csv").out)))
    apart = sold("revenue", "--by-team", "-o", "json").json
    unknown = sold("revenue", "nobody")

    assert [(row["currency"], row["closing_minor"]) for row in one] == [("EUR", "1000")]
    assert sorted((row["team"], row["currency"], row["closing_minor"]) for row in apart) == [
        ("acme", "EUR", 1_000),
        ("beta", "EUR", 560),
        ("beta", "JPY", 90),
    ]
    assert (unknown.code, "has no account" in unknown.err) == (2, True)


def test_the_journal_asserts_the_balance_that_is_told(sold: Coffer, tmp_path: Path) -> None:
    file = tmp_path / "revenue.journal"

    told = sold("revenue", "--journal", str(file))

    assert (told.code, "hledger -f" in told.err, "closing_minor" in told.out) == (0, True, True)
    lines = file.read_text().splitlines()
    assert "    Liabilities:Deferred:Main  -1560 EURMINOR = -1560 EURMINOR" in lines
    assert not list(tmp_path.glob("*.part"))
