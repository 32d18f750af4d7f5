"""The coffer command about invoices: who sells, close, issue, documents and their forms, from a line to its charges, void."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.account.charging import charge_usage
from infra.postgres.shards import ShardMap
from tests.builders import a_catalogue, a_usage_record, unit_card
from tests.infra.stored import told
from tests.infra.test_cli import Coffer, bare, coffer
from tests.infra.test_cli_whole_account import json_of, refused

__all__ = ["bare", "coffer"]

SELLER = (
    "--name",
    "Coffer SE",
    "--address",
    "Kai 7",
    "--country",
    "DE",
    "--prefix",
    "CO-",
    "--tax-percent",
    "19",
)
NOW = datetime.now(UTC)
LAST_MONTH = NOW.replace(day=1, hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    opened = ShardMap(database_url)
    yield opened
    opened.close()


@pytest.fixture
def used(coffer: Coffer, shards: ShardMap) -> Coffer:
    """Team old, whose books begin last month, used 12 credits then; and there is a seller."""
    assert coffer("issuer", "set", *SELLER).code == 0
    opened = coffer("account", "open", "old", "--books-from", LAST_MONTH.isoformat())
    assert opened.code == 0, opened.err
    record = a_usage_record("r1", 12, occurred=f"{LAST_MONTH:%Y-%m-%d %H:%M}", team="old")
    catalogue = a_catalogue(unit_card())
    told(shards, "old", datetime.now(UTC), lambda decision: charge_usage(decision, record, catalogue))
    return coffer


def test_a_month_is_closed_issued_shown_and_leads_to_its_charges(used: Coffer, tmp_path: Path) -> None:
    draft = json_of(used, "invoice", "draft", "old")
    closed = json_of(used, "invoice", "close", "old", "--reason", "it is all here")
    issued = json_of(used, "invoice", "issue")
    assert used("project", "--once").code == 0
    (listed,) = json_of(used, "invoice", "list", "old")
    number = listed["invoice"]
    document = used("invoice", "show", "old", number, "-o", "json").out.encode()
    (line,) = json_of(used, "invoice", "lines", "old", number)
    (charge,) = json_of(used, "invoice", "charges", "old", number, "--line", "1")
    explained = used("explain", "old", charge["charge_id"]).out
    pdf = tmp_path / "invoice.pdf"
    written = used("invoice", "pdf", "old", number, "--file", str(pdf))

    assert (draft[0]["number"], draft[0]["lines"][0]["amount"]) == (None, "12")
    assert closed["period_start"].startswith(f"{LAST_MONTH:%Y-%m}")
    assert (issued["invoices"], issued["pdfs"], issued["failed"]) == (1, 1, 0)
    assert number == f"CO-{NOW:%Y}-000001"
    assert hashlib.sha256(document).hexdigest() == listed["digest"]
    assert (line["amount"], line["charges"], charge["amount"]) == ("12", 1, "12")
    assert f"Invoiced: on invoice {number} of {LAST_MONTH:%Y-%m}" in explained
    assert (written.code, pdf.read_bytes()[:5]) == (0, b"%PDF-")
    assert used("verify").code == 0


def test_forms_of_a_draft_are_written_to_standard_output(used: Coffer) -> None:
    csv = used("invoice", "csv", "old")
    html = used("invoice", "html", "old")

    assert csv.out.startswith("invoice,row,line")
    assert html.out.lstrip().lower().startswith("<!doctype html>")
    assert "Coffer SE" in html.out


def test_an_invoice_is_voided_under_a_number_of_its_own_once_for_a_key(used: Coffer) -> None:
    assert used("invoice", "close", "old", "--reason", "it is all here").code == 0
    assert used("invoice", "issue", "--without-pdfs").code == 0
    number = f"CO-{NOW:%Y}-000001"
    void = ("invoice", "void", "old", number, "--reissue", "--reason", "wrong address", "--key", "once")

    first, again = json_of(used, *void), json_of(used, *void)
    twice = refused(used(*void[:-1], "twice"))
    noted = refused(
        used("invoice", "credit-note", "old", number, "--net", "1", "--text", "x", "--reason", "x")
    )

    assert first["invoice"] == again["invoice"] == f"CO-{NOW:%Y}-000002"
    assert "is void already" in twice
    assert number in noted
    assert json_of(used, "invoice", "issue", "--without-pdfs")["invoices"] == 1


def test_without_a_seller_nothing_is_issued_and_the_command_says_what_is_missing(
    coffer: Coffer, shards: ShardMap
) -> None:
    assert coffer("account", "open", "old", "--books-from", LAST_MONTH.isoformat()).code == 0
    record = a_usage_record("r1", 12, occurred=f"{LAST_MONTH:%Y-%m-%d %H:%M}", team="old")
    catalogue = a_catalogue(unit_card())
    told(shards, "old", datetime.now(UTC), lambda decision: charge_usage(decision, record, catalogue))
    assert coffer("invoice", "close", "old", "--reason", "it is all here").code == 0

    issued = coffer("invoice", "issue", "-o", "json")

    assert (issued.json["waiting"], issued.json["invoices"]) == (1, 0)
    assert "coffer issuer set" in issued.err
    assert "coffer issuer set" in coffer("issuer", "show").out


def test_a_statement_of_account_has_the_balances_of_its_range(coffer: Coffer) -> None:
    coffer("project", "--once")
    since, until = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (NOW - timedelta(days=1), NOW + timedelta(days=1)))

    told_csv = coffer("statement", "acme", "--from", since, "--until", until, "--csv")
    endless = refused(coffer("statement", "acme", "--csv"))

    lines = told_csv.out.splitlines()
    assert (lines[0].split(",")[0], len(lines)) == ("version", 4)
    assert lines[1].split(",")[1] == "OpeningBalance"
    assert lines[-1].split(",")[5] == "100"
    assert "--from and --until" in endless


def test_numbers_and_details_that_cannot_be_are_one_clear_line(coffer: Coffer) -> None:
    assert "CO-2026-000009" in refused(coffer("invoice", "show", "acme", "CO-2026-000009"))
    assert "as it is printed" in refused(coffer("invoice", "show", "acme", "a number"))
    assert "country" in refused(
        coffer("issuer", "set", "--name", "X", "--address", "Y", "--country", "Germany")
    )
