"""`coffer export` writes the books of a ledger in PostgreSQL; those of the real trace agree with what can be read elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from domain.account.state import TeamAccount
from infra.local.kafka import LocalKafka
from infra.postgres.heads import load_heads
from infra.postgres.histories import PostgresEvents
from infra.postgres.shards import ShardMap
from infra.project import ProjectorLoop
from infra.settings import REPOSITORY
from projections.books import BookAccount
from projections.books_files import BookFormat
from projections.books_names import account_name
from tests.judges.programs import PROGRAMS, hledger_balances, judged
from tests.projections.ledgers import a_ledger

pytestmark = pytest.mark.usefixtures("judges")

BEANCOUNT_TEAMS = 600
"""It takes four times as long as the other two: it judges the busiest teams, which have most of the records."""
Export = Callable[..., subprocess.CompletedProcess[str]]

USED = """
SELECT team_id, action, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM'), sum(amount_micros)::bigint
  FROM statement_entry WHERE kind IN ('CreditsCharged', 'HoldCaptured') GROUP BY 1, 2, 3
"""


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    opened = ShardMap(database_url, application_name="coffer tests")
    yield opened
    opened.close()


@pytest.fixture
def export(database_url: str, tmp_path: Path) -> Export:
    """The command, as somebody types it."""
    environment = os.environ | {"COFFER_DATABASE_URL": database_url, "COFFER_STATE_DIRECTORY": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.cli.main", "export", *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


# --- the command ---


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_books_of_some_teams_are_written_and_accepted(
    shards: ShardMap, export: Export, tmp_path: Path, program: BookFormat
) -> None:
    a_ledger(shards, teams=["acme", "beta", "gamma"], steps=25)
    file = tmp_path / "books"

    told = export("acme", "beta", "--format", program, "--out", str(file))

    assert told.returncode == 0, told.stderr
    assert "2 teams" in told.stderr
    assert judged(program, file).is_accepted
    text = file.read_text()
    assert ("Assets:Acme:" in text, "Assets:Beta:" in text, "Assets:Gamma:" in text) == (True, True, False)


def test_all_teams_go_to_standard_output_alike(shards: ShardMap, export: Export, tmp_path: Path) -> None:
    a_ledger(shards, teams=["acme", "beta"], steps=10)
    file = tmp_path / "books"

    printed, written = export("--all"), export("--all", "--out", str(file))

    assert (printed.returncode, written.returncode) == (0, 0)
    assert printed.stdout == file.read_text()
    assert "Assets:Beta:" in printed.stdout


def test_books_that_cannot_be_written_leave_no_file(shards: ShardMap, export: Export, tmp_path: Path) -> None:
    """The history breaks a promise in its middle: what can be read of it is not passed off as books."""
    a_ledger(shards, teams=["acme"], steps=10)
    spoil(shards, "acme")
    file = tmp_path / "books"

    to_file, to_output = export("acme", "--out", str(file)), export("acme")

    for told in (to_file, to_output):
        assert told.returncode == 1
        assert "no books: team acme, version " in told.stderr
    assert list(tmp_path.glob("books*")) == []
    file.write_text(to_output.stdout)
    assert not judged("hledger", file).is_accepted


def test_a_team_without_account_and_no_team_at_all_are_refused(
    shards: ShardMap, export: Export, tmp_path: Path
) -> None:
    a_ledger(shards, teams=["acme"], steps=2)
    file = tmp_path / "books"

    told = [export(*words, "--out", str(file)) for words in (("acme", "acne"), (), ("acme", "--all"))]

    assert [each.returncode for each in told] == [2, 2, 2]
    assert "'acne' has no account" in told[0].stderr
    assert all("--all" in each.stderr for each in told[1:])
    assert not file.exists()


def spoil(shards: ShardMap, team_id: str) -> None:
    """One stored amount is other than it was, as somebody with all rights could make it."""
    shard = shards.shard_of(team_id)
    granted = next(
        recorded
        for recorded in PostgresEvents(shards).events(team_id)
        if type(recorded.event).__name__ in ("CreditsGranted", "CreditsToppedUp")
    )
    with shards.own_connection_for(shard) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE ledger_events SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'),"
            " '\"amount_micros\":(\\d+)', '\"amount_micros\":1\\1'), 'UTF8')"
            " WHERE shard = %s AND originator_id = %s AND originator_version = %s",
            (shard, granted.originator_id, granted.originator_version),
        )


# --- the real trace ---


@pytest.mark.trace
def test_the_books_of_the_real_trace_agree_with_all_that_can_be_read_elsewhere(
    real_trace: Path,
    database_url: str,
    own_kafka: LocalKafka,
    shards: ShardMap,
    export: Export,
    tmp_path: Path,
) -> None:
    load(real_trace, tmp_path, database_url, own_kafka)
    ProjectorLoop(shards).catch_up()

    for program in PROGRAMS:
        teams = busiest(shards, BEANCOUNT_TEAMS) if program == "beancount" else ["--all"]
        started = time.perf_counter()
        told = export(*teams, "--format", program, "--out", str(tmp_path / program))
        assert told.returncode == 0, told.stderr
        written = time.perf_counter() - started

        verdict = judged(program, tmp_path / program)

        assert verdict.is_accepted, verdict.said[:3_000]
        print(f"\n{program} {verdict.seconds:.1f} s after {written:.1f} s of writing: {told.stderr.strip()}")

    balances = hledger_balances(tmp_path / "hledger")
    assert what_teams_have(balances) == read_balances(shards)
    assert {name: sum_ for name, sum_ in balances.items() if name.startswith("Income:")} == summed_in_sql(
        shards
    )
    assert sum(balances.values()) == 0


def busiest(shards: ShardMap, teams: int) -> list[str]:
    """The teams with the most events."""
    with shards.own_connection_for(0) as connection:
        found = connection.execute(
            "SELECT team_id FROM account_head ORDER BY version DESC, team_id LIMIT %s", (teams,)
        )
        return [team_id for (team_id,) in found]


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


def what_teams_have(balances: dict[str, int]) -> dict[str, int]:
    return {name: sum_ for name, sum_ in balances.items() if name.startswith(("Assets:", "Liabilities:"))}


def read_balances(shards: ShardMap) -> dict[str, int]:
    """Lots, holds and debt of every team as its head says, under the names of the books, without those that are zero."""
    found: dict[str, int] = defaultdict(int)
    for account in heads(shards):
        team = account.team_id
        for lot in account.lots:
            place = BookAccount("lot", lot.terms.lot_id)
            if lot.withheld_since is not None:
                place = BookAccount("withheld", lot.terms.origin_lot_id)
            found[account_name(team, place)] += lot.remaining_micros - lot.held_micros
        for hold in account.holds:
            found[account_name(team, BookAccount("held", hold.hold_id))] += hold.held_micros
        found[account_name(team, BookAccount("debt"))] -= account.debt_micros
    return {name: sum_ for name, sum_ in found.items() if sum_}


def heads(shards: ShardMap) -> Iterator[TeamAccount]:
    by_shard: dict[int, list[str]] = defaultdict(list)
    for team_id in PostgresEvents(shards).team_ids():
        by_shard[shards.shard_of(team_id)].append(team_id)
    for shard, teams in by_shard.items():
        with shards.own_connection_for(shard) as connection, connection.cursor() as cursor:
            for head in load_heads(cursor, shard, teams, lock=False).values():
                yield head.account


def summed_in_sql(shards: ShardMap) -> dict[str, int]:
    """What the statement's charges come to, by action, month and team. The trace has no refunds."""
    with shards.own_connection_for(0) as connection:
        refunds = connection.execute("SELECT count(*) FROM statement_entry WHERE kind = 'ChargeRefunded'")
        assert refunds.fetchone() == (0,)
        return {
            account_name(team_id, BookAccount("used", action, month)): micros
            for team_id, action, month, micros in connection.execute(USED)
            if micros
        }
