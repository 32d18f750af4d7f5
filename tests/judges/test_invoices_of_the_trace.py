"""Invoices of the real trace: all teams, two months; SQL alone and hledger come to the same sums, late usage is adjusted (I8)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.account.charging import charge_usage
from domain.account.decision import Decision
from domain.amounts import parse_credits
from domain.commands import ClosePeriod
from domain.ledger import Caller, Ledger
from domain.usage import UsageRecord
from infra.closing import Closer, reading
from infra.local.kafka import LocalKafka
from infra.local.trace import source_of
from infra.postgres.application import CatalogueApplication
from infra.postgres.histories import PostgresEvents
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from infra.settings import REPOSITORY
from projections.books import entries
from projections.books_names import name_part
from tests.builders import a_usage_record
from tests.infra.invoicing_speed import measured
from tests.infra.stored import rows, told
from tests.judges.programs import hledger_balances, judged, written

pytestmark = [pytest.mark.trace, pytest.mark.usefixtures("judges")]

MONTHS = ("2024-11", "2024-12")
PDFS = int(os.environ.get("COFFER_TRACE_PDFS", "300"))
MEMORY_GROWTH_MIB_MAX = 40
LATE_TEAMS = 5

# What the charges of a period come to, from the stored bytes alone: those that occurred in it, recorded before its close.
CHARGED = """
WITH issued AS (
    SELECT e.shard, e.originator_id, d ->> 'invoice' AS invoice, (d ->> 'closed_version')::bigint AS closed,
           (d ->> 'period_start')::timestamptz AS since, (d ->> 'period_end')::timestamptz AS until,
           coalesce((d ->> 'opening_micros')::bigint, 0) - coalesce((d ->> 'closing_micros')::bigint, 0) AS used
    FROM ledger_events e CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS d) AS s
    WHERE e.topic = 'InvoiceIssued.1'
), charged AS (
    SELECT e.shard, e.originator_id, e.originator_version AS version, (d ->> 'occurred_at')::timestamptz AS at,
           (d ->> 'amount_micros')::bigint AS amount
    FROM ledger_events e CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS d) AS s
    WHERE e.topic LIKE 'CreditsCharged.%%'
)
SELECT i.invoice, i.used, coalesce(sum(c.amount), 0)::bigint FROM issued i
LEFT JOIN charged c ON c.shard = i.shard AND c.originator_id = i.originator_id AND c.version < i.closed
    AND c.at >= i.since AND c.at < i.until
GROUP BY 1, 2
"""
ALL_CHARGED = """
SELECT coalesce(sum((convert_from(state, 'UTF8')::jsonb ->> 'amount_micros')::bigint), 0)::bigint FROM ledger_events
WHERE topic LIKE 'CreditsCharged.%%'
"""


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    opened = ShardMap(database_url, application_name="coffer tests")
    yield opened
    opened.close()


def load(trace: Path, directory: Path, database_url: str, kafka: LocalKafka) -> None:
    """The trace was streamed through Kafka, a worker and the ledger."""
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli.main", "up", "--trace", trace, "--once", "--state-dir", directory],
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"COFFER_DATABASE_URL": database_url, "COFFER_KAFKA_BOOTSTRAP": kafka.bootstrap},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def close(shards: ShardMap, teams: list[str], key: str) -> None:
    """The oldest open month of each team is closed by an operator, before late grace is over."""
    ledger = Ledger(PostgresLedgerStore(shards))

    def one(team: str) -> None:
        ledger.execute(ClosePeriod(team_id=team, reason="it is all here"), Caller("olga", "operator"), key)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, teams))


def test_invoices_of_all_teams_tie_with_sql_and_hledger_and_late_usage_is_adjusted(
    real_trace: Path, tmp_path: Path, database_url: str, own_kafka: LocalKafka, shards: ShardMap
) -> None:
    load(real_trace, tmp_path, database_url, own_kafka)
    teams = list(PostgresEvents(shards).team_ids())
    for month in MONTHS:
        close(shards, teams, f"close {month}")

    speed = measured(database_url, expected=len(teams) * len(MONTHS), pdfs=PDFS)
    print(f"\n{len(teams)} teams: {speed.told()}")

    assert speed.invoices + speed.omitted == len(teams) * len(MONTHS)
    assert speed.end_mib - speed.quarter_mib <= MEMORY_GROWTH_MIB_MAX
    by_invoice = rows(database_url, CHARGED)
    assert len(by_invoice) == speed.invoices
    assert [(invoice, used, charged) for invoice, used, charged in by_invoice if used != charged] == []
    assert sum(used for _, used, _ in by_invoice) == rows(database_url, ALL_CHARGED)[0][0]
    assert lines_by_action(shards, database_url) == used_by_hledger(shards, teams, tmp_path)
    assert_late_usage_is_adjusted(shards, database_url, teams[:LATE_TEAMS], source_of(real_trace))
    ProjectorLoop(shards).catch_up()
    assert verify(shards).findings == []


def lines_by_action(shards: ShardMap, database_url: str) -> dict[tuple[str, str], int]:
    """What the lines of all invoices come to, by action and month, in micro-credits."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    by_team: dict[str, list[str]] = defaultdict(list)
    for team, invoice in rows(database_url, "SELECT team_id, invoice FROM invoice_document"):
        by_team[team].append(invoice)
    for team, numbers in by_team.items():
        with reading(shards, team) as invoices:
            assert invoices is not None
            for number in numbers:
                document = invoices.issued(number).document
                assert document.adjustments == []
                for line in document.lines:
                    sums[line.action, document.period.label] += parse_credits(line.amount, "amount")
    return dict(sums)


def used_by_hledger(shards: ShardMap, teams: list[str], directory: Path) -> dict[tuple[str, str], int]:
    """What hledger adds up as used, by action and calendar month: the teams' zone is UTC, their anchor the first."""
    source = PostgresEvents(shards)
    file = written(
        directory / "books", "hledger", (entry for team in teams for entry in entries(source, team))
    )
    assert judged("hledger", file).is_accepted
    sums: dict[tuple[str, str], int] = defaultdict(int)
    actions = {name_part(action): action for action in ("image.generate", "image.edit", "image.inpaint")}
    for name, sum_ in hledger_balances(file, "Income:Used").items():
        _, _, action, month, _ = name.split(":")
        sums[actions[action], month] += sum_
    return dict(sums)


def assert_late_usage_is_adjusted(shards: ShardMap, database_url: str, teams: list[str], source: str) -> None:
    """Usage of November that comes after its close is an adjustment of the next invoice, and names the month."""
    with CatalogueApplication(shards) as application:
        catalogue = application.catalogue()
    before = rows(database_url, "SELECT invoice, digest FROM invoice_document ORDER BY invoice")
    for team in teams:
        late = a_usage_record(
            "late-1",
            occurred="2024-11-20 12:00",
            team=team,
            source=source,
            meters={"images": "2", "steps": "30"},
            dimensions={"loras": "0"},
            member=None,
        )

        def charge(decision: Decision, late: UsageRecord = late) -> None:
            charge_usage(decision, late, catalogue)

        told(shards, team, rows(database_url, "SELECT clock_timestamp()")[0][0], charge)
    close(shards, teams, "close 2025-01")
    done = Closer(shards, lambda _: b"%PDF").issue()

    assert done.invoices == len(teams)
    issued = rows(
        database_url,
        "SELECT team_id, invoice FROM invoice_document WHERE NOT invoice = ANY(%s)",
        [invoice for invoice, _ in before],
    )
    for team, number in issued:
        with reading(shards, team) as invoices:
            assert invoices is not None
            document = invoices.issued(number).document
        assert document.period.label == "2025-01"
        assert document.lines == []
        assert [(each.period_label, each.amount, each.charges) for each in document.adjustments] == [
            ("2024-11", "2", 1)
        ]
    after = rows(
        database_url,
        "SELECT invoice, digest FROM invoice_document WHERE invoice = ANY(%s) ORDER BY invoice",
        [invoice for invoice, _ in before],
    )
    assert after == before
