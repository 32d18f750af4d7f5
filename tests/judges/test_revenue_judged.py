"""hledger and ledger accept the journal of deferred revenue, and refuse it for one cent that is wrong."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from projections.books_files import BookFormat
from projections.revenue import RollForward, rolled_forward, team_flows
from projections.revenue_files import REVENUE_COLUMNS, revenue_csv, revenue_journal
from tests.builders import AnAccount
from tests.judges.programs import judged
from tests.projections.lives import a_life
from tests.projections.test_revenue_rules import Source, bought

JUDGES: list[BookFormat] = ["hledger", "ledger"]


@pytest.fixture(scope="module")
def rows() -> list[RollForward]:
    """Lives of many teams, and one of another issuer and currency."""
    teams = [a_life(seed) for seed in range(8)]
    other = AnAccount("2026-09-01 00:00", issuer_id="far-east_2")
    bought(other, "A", 300, 70_001, "2026-09-02 00:00", "JPY")
    other.used("u", 100, occurred="2026-10-10 12:00")
    return rolled_forward(
        flow for team in [*teams, other] for flow in team_flows(Source(team.events), "acme")
    )


def written(path: Path, rows: list[RollForward]) -> Path:
    path.write_text("".join(f"{line}\n" for line in revenue_journal(rows)), encoding="ascii")
    return path


@pytest.mark.usefixtures("judges")
@pytest.mark.parametrize("judge", JUDGES)
def test_the_journal_is_accepted(judge: BookFormat, rows: list[RollForward], tmp_path: Path) -> None:
    assert len(rows) > 4

    verdict = judged(judge, written(tmp_path / "revenue", rows))

    assert verdict.is_accepted, verdict.said


@pytest.mark.usefixtures("judges")
@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("name", ["used_minor", "sold_minor", "closing_minor"])
def test_the_journal_is_refused_for_one_cent(
    judge: BookFormat, name: str, rows: list[RollForward], tmp_path: Path
) -> None:
    wrong = msgspec.structs.replace(rows[-1], **{name: getattr(rows[-1], name) + 1})

    verdict = judged(judge, written(tmp_path / "revenue", [*rows[:-1], wrong]))

    assert not verdict.is_accepted


def test_the_table_says_what_the_rows_say(rows: list[RollForward]) -> None:
    table = list(csv.DictReader(StringIO("".join(revenue_csv(rows)), newline="")))

    assert list(table[0]) == list(REVENUE_COLUMNS)
    assert [(row["period"], row["closing_minor"]) for row in table] == [
        (row.label, str(row.closing_minor)) for row in rows
    ]
    assert {row["opening_minor"] for row in table if row["issuer_id"] == "far-east_2"} == {"0", "70001"}
