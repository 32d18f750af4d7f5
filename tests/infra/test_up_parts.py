"""The parts of `coffer up`, each by itself: children, starting credits, the kept day, the table of a run."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import psycopg
import pytest

from domain.actors import Actor
from domain.catalogue import Catalogue, apply, publish_rate_card
from infra.local import children
from infra.local.children import ENDS_MAX, Children
from infra.local.demo_day import DemoDay
from infra.local.demo_key import kept_api_key
from infra.local.opening import DEMO_CARD, open_teams, publish_demo
from infra.local.processes import LocalServerError
from infra.local.run_report import RunResult, as_table
from infra.local.streams import DemoDayStream, costs_by_team, kept_day_start, starting_credits
from infra.postgres.catalogue_store import PostgresCatalogue
from infra.postgres.shards import ShardMap

START = datetime(2026, 5, 4, tzinfo=UTC)
ACTOR = Actor("tester", "operator")


def _stream(records: int = 2_000) -> DemoDayStream:
    return DemoDayStream(DemoDay(3, datetime.now(UTC) - timedelta(days=1), records, 60))


@pytest.fixture
def catalogue() -> Catalogue:
    """The demo card in force."""

    catalogue = Catalogue()
    for event in publish_rate_card(catalogue, tomllib.loads(DEMO_CARD.read_text()), START, ACTOR):
        apply(catalogue, event)
    return catalogue


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """A fresh ledger."""
    shards = ShardMap(database_url)
    yield shards
    shards.close()


def _family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Children:
    """Children that run this Python instead of `coffer`, without pauses worth waiting for."""
    monkeypatch.setattr(children, "COFFER", (sys.executable, "-c", code))
    monkeypatch.setattr(children, "PAUSE_SECONDS_MIN", 0.01)
    monkeypatch.setattr(children, "PAUSE_SECONDS_MAX", 0.05)
    return Children(tmp_path, tmp_path / "logs", {})


# --- children ---


def test_a_child_that_died_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = _family(tmp_path, monkeypatch, "import time; time.sleep(60)")
    child = family.start("sleeper")
    first = child.pid
    assert first is not None

    psutil.Process(first).kill()
    deadline = time.monotonic() + 10
    while child.pid in {first, None} and time.monotonic() < deadline:
        family.look_after()
        time.sleep(0.01)

    assert child.pid not in {first, None}
    family.stop()
    assert child.pid is None


def test_a_child_that_never_stays_up_is_told_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = _family(tmp_path, monkeypatch, "raise SystemExit('no such thing')")
    family.start("broken")

    def look_on() -> None:
        for _ in range(ENDS_MAX * 200):
            family.look_after()
            time.sleep(0.01)

    with pytest.raises(LocalServerError, match=r"broken does not stay up(.|\n)*no such thing"):
        look_on()
    family.stop()


def test_a_child_that_does_not_end_when_asked_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "PATIENCE_SECONDS", 0.5)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    family = _family(tmp_path, monkeypatch, code)
    child = family.start("deaf")
    while "deaf" not in child.log.read_text():
        time.sleep(0.01)

    family.stop()

    assert child.pid is None


# --- the stream and its teams ---


def test_the_day_of_a_seed_keeps_its_start(tmp_path: Path) -> None:
    first = kept_day_start(tmp_path, 7, 20_000, START)

    assert first <= START - timedelta(days=1)
    assert kept_day_start(tmp_path, 7, 20_000, START + timedelta(days=9)) == first
    assert kept_day_start(tmp_path, 8, 20_000, START + timedelta(days=9)) > first


def test_most_teams_start_with_enough_and_a_few_run_into_debt(catalogue: Catalogue) -> None:
    stream = DemoDayStream(DemoDay(3, START, 20_000))
    starts = starting_credits(stream, catalogue)
    costs = costs_by_team(stream, catalogue)
    short = [team for team, start in starts.items() if sum(start) < costs[team]]

    assert starts == starting_credits(stream, catalogue)
    assert len(starts) == 300
    assert 5 < len(short) < 50


def test_opening_the_teams_twice_changes_nothing(shards: ShardMap, database_url: str) -> None:
    stream = _stream()
    catalogue = publish_demo(shards, stream)

    def heads() -> list[tuple[object, ...]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(
                "SELECT team_id, version, chain_hash FROM account_head ORDER BY 1"
            ).fetchall()

    assert open_teams(shards, stream, catalogue) == 60
    first = heads()
    assert open_teams(shards, stream, publish_demo(shards, stream)) == 0

    assert heads() == first
    assert len(first) == 60


def test_the_demo_plans_are_published_once_and_one_that_was_changed_is_not_set_back(shards: ShardMap) -> None:
    first = publish_demo(shards, _stream())
    studio = tomllib.loads((DEMO_CARD.parent / "studio.toml").read_text())
    changed = PostgresCatalogue(shards)
    changed.publish_plan(studio | {"allowance": "1500"}, ACTOR)
    changed.close()

    again = publish_demo(shards, _stream())

    assert [plan.plan_id for plan in first.plans()] == ["free", "studio", "studio-plus"]
    assert again.version == first.version + 1
    plan = again.plan("studio")
    assert plan is not None
    assert (plan.version, plan.allowance_micros) == (2, 1_500_000_000)


def test_another_stream_gives_open_teams_new_credits(shards: ShardMap, database_url: str) -> None:
    stream, other = _stream(), _stream(2_500)
    catalogue = publish_demo(shards, stream)
    open_teams(shards, stream, catalogue)

    assert open_teams(shards, other, catalogue) == 0

    with psycopg.connect(database_url) as connection:
        granted = connection.execute(
            "SELECT count(*) FROM ledger_events WHERE topic = 'CreditsGranted.1'"
        ).fetchone()
    assert granted == (120,)


# --- the key ---


def test_the_key_is_made_once_and_readable_by_its_owner_only(shards: ShardMap, tmp_path: Path) -> None:
    first = kept_api_key(shards, b"p" * 32, tmp_path)

    assert kept_api_key(shards, b"p" * 32, tmp_path) == first
    assert (tmp_path / "api_key").stat().st_mode & 0o777 == 0o600
    with shards.connection_for(0) as connection:
        (row,) = connection.execute("SELECT to_jsonb(api_key)::text AS key FROM api_key").fetchall()
    assert first.rpartition("_")[2][:20] not in str(row)


# --- the result ---


@pytest.mark.parametrize(
    ("outcomes", "micros", "teams", "told"),
    [
        (
            {"charged": {"": 2}, "waived": {"failed": 1}},
            1_500_000,
            1,
            "charged 1.5 credits to 1 team in 2.0 s",
        ),
        ({"duplicate": {"": 3}}, 0, 0, "nothing charged: all 3 records were charged before"),
        ({"duplicate": {"": 2}, "parked": {"unknown_team": 1}}, 0, 0, "nothing charged: 2 of 3 records"),
    ],
)
def test_the_table_of_a_run_sums_every_outcome(
    outcomes: dict[str, dict[str, int]], micros: int, teams: int, told: str
) -> None:
    table = as_table(RunResult(3, outcomes, micros, teams, 2.0))

    lines = [line.split() for line in table.splitlines()]
    assert ["all", "records", "3"] in lines
    assert told in table
    assert len({len(line) for line in table.splitlines()[:2]}) == 1


def test_the_result_file_holds_what_its_readers_expect(tmp_path: Path) -> None:
    result = RunResult(3, {"charged": {"": 2}, "waived": {"failed": 1}}, 1_500_000, 1, 2.0)

    result.write(tmp_path / "out" / "run.json")

    assert msgspec.json.decode((tmp_path / "out" / "run.json").read_bytes()) == {
        "records": 3,
        "outcomes": {"charged": {"": 2}, "waived": {"failed": 1}},
        "charged_micros": 1_500_000,
        "teams_charged": 1,
        "seconds": 2.0,
        "payments": {},
        "events": {},
        "holds_captured": 0,
        "holds_denied": 0,
    }
