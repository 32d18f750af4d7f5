"""Time passes on teams that nobody asks about: booked once, by whoever comes first, beside anything else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier, Thread

import psycopg
import pytest

from consumers.batches import MovedHeads
from domain.account.decision import Decision, account_id
from domain.account.due import pass_time
from domain.account.events import PlanTerms
from domain.account.funding import AskedLot, grant_credits
from domain.account.holding import Use, place_hold
from domain.account.opening import close_account, open_account
from domain.account.planning import assign_plan
from domain.chain import event_hash
from domain.errors import Busy
from domain.ticking import tick
from infra.postgres import due_teams
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.due_teams import DueTeams
from infra.postgres.ledger_store import Clock, PostgresLedgerStore
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.settings import REPOSITORY
from infra.tick import Ticked, TickLoop, tick_due_teams
from tests.builders import micros, when
from tests.infra.stored import charge, rows, told, usage

START = when("2026-11-01 12:00")
LATE = START + timedelta(days=62)
"""The first of January has passed, and with it two turns of a period that begins with the month."""

PLAN = PlanTerms(
    plan_id="studio",
    version=1,
    digest="0" * 64,
    card_id="standard",
    allowance_micros=micros(100),
    rollover_cap_micros=micros(30),
)
DIGESTED = ("ledger_events", "account_head", "account_index", "idempotency", "shard_log", "denial_repeat")


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url, timeouts=Timeouts(lock_milliseconds=2_000), connections_max=16)
    yield shards
    shards.close()


def at(now: datetime) -> Clock:
    """A clock that stands."""
    return lambda _: now


def opening(team: str) -> Callable[[Decision], None]:
    """The rule that opens the team's account."""
    return lambda decision: open_account(decision, team, "UTC", 1, "standard")


def ticked(shards: ShardMap, now: datetime) -> Ticked:
    """What one tick at an instant of the story did."""
    return tick_due_teams(PostgresLedgerStore(shards, clock=at(now)), DueTeams(shards, clock=at(now)))


def idle(shards: ShardMap, *teams: str, plan: PlanTerms | None = None) -> None:
    """Teams with a grant of 10 that expires after a day and one of 20 that does not, of which a hold sets aside 25."""
    for team in teams:
        told(
            shards,
            team,
            START,
            opening(team),
        )
        if plan is not None:
            told(shards, team, START, lambda decision: assign_plan(decision, plan, "now"))
        told(
            shards,
            team,
            START,
            lambda decision: grant_credits(
                decision, micros(10), asked=AskedLot(expires_at=START + timedelta(days=1))
            ),
        )
        told(shards, team, START, lambda decision: grant_credits(decision, micros(20)))
        told(
            shards,
            team,
            START,
            lambda decision: place_hold(decision, micros(25), Use("image.generate"), 3_600),
        )


def kinds(database_url: str, team: str) -> list[str]:
    """The names of the team's events, in order."""
    stored = rows(
        database_url,
        "SELECT topic FROM ledger_events WHERE originator_id = %s ORDER BY originator_version",
        account_id(team),
    )
    return [topic.partition(".")[0] for (topic,) in stored]


def digest(database_url: str) -> list[object]:
    """What the tables hold."""
    return [
        rows(database_url, f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t")
        for table in DIGESTED
    ]


def test_two_ticks_at_once_book_hold_expiry_breakage_and_turns_once_i4_i19(
    database_url: str, shards: ShardMap
) -> None:
    teams = [f"idle-{n}" for n in range(6)]
    idle(shards, *teams, plan=PLAN)
    together = Barrier(2)

    def one(_: int) -> Ticked:
        together.wait()
        return ticked(shards, LATE)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, range(2)))
    ticked(shards, LATE)  # teams that each of the two left to the other, if any

    for team in teams:
        booked = kinds(database_url, team)
        assert booked.count("HoldExpired") == 1
        # The grant of a day, and of two periods what was above the cap or did not roll again.
        assert booked.count("CreditsExpired") == 4
        assert booked.count("AllowanceGranted") == 3
        assert booked.count("CreditsRolledOver") == 2
    assert sum(each.teams for each in done) <= len(teams)
    assert verify(shards).findings == []


def test_what_a_tick_books_is_what_the_next_command_would_have_booked_i18(
    database_url: str, shards: ShardMap
) -> None:
    idle(shards, "ticked", "asked", plan=PLAN)

    tick(PostgresLedgerStore(shards, clock=at(LATE)), "ticked")
    told(shards, "asked", LATE, pass_time)

    assert kinds(database_url, "ticked") == kinds(database_url, "asked")
    balances = rows(database_url, "SELECT settled_micros, held_micros, debt_micros FROM account_balance")
    assert len(set(balances)) == 1


def test_more_ticks_change_nothing_i20(database_url: str, shards: ShardMap) -> None:
    idle(shards, "acme", "zebra", plan=PLAN)
    ticked(shards, LATE)
    before = digest(database_url)

    again = [ticked(shards, LATE) for _ in range(3)]

    assert again == [Ticked()] * 3
    assert digest(database_url) == before


def test_ticks_on_the_way_lead_to_the_same_account_as_one_at_the_end_i20(
    database_url: str, shards: ShardMap
) -> None:
    idle(shards, "often", "once", plan=PLAN)
    store = PostgresLedgerStore(shards, clock=at(LATE))
    for hours in range(0, 62 * 24, 7):
        now = START + timedelta(hours=hours)
        tick(PostgresLedgerStore(shards, clock=at(now)), "often")

    for team in ("often", "once"):
        tick(store, team)

    assert kinds(database_url, "often") == kinds(database_url, "once")
    lots = rows(
        database_url, "SELECT lot_id, remaining_micros, held_micros FROM account_lot ORDER BY team_id, place"
    )
    assert lots[: len(lots) // 2] == lots[len(lots) // 2 :]


class MovingClock:
    """An hour passes whenever anybody looks."""

    def __init__(self) -> None:
        self._hours = count(1)

    def __call__(self, _: object = None) -> datetime:
        return START + timedelta(hours=next(self._hours))


def test_ticks_beside_commands_and_the_stream_leave_a_sound_ledger_i7_i16(
    database_url: str, shards: ShardMap
) -> None:
    teams = [f"busy-{n}" for n in range(3)]
    idle(shards, *teams, plan=PLAN)
    clock = MovingClock()
    until = time.monotonic() + 4
    store = PostgresBatchStore(shards, clock=clock)

    def ticking(_: int) -> None:
        tick_due_teams(PostgresLedgerStore(shards, clock=clock), DueTeams(shards, clock=clock))

    def asking(number: int) -> None:
        told(
            shards,
            teams[number % 3],
            clock(),
            lambda d: place_hold(d, micros(1), Use("image.generate"), 3_600),
        )

    def streaming(number: int) -> None:
        charge(store, [usage(team, f"u{number}") for team in teams])

    def again(work: Callable[[int], None]) -> None:
        for number in count(1):
            with suppress(Busy, MovedHeads):
                work(number)
            if time.monotonic() > until:
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(again, (ticking, ticking, asking, streaming)))
    store.close()

    assert verify(shards).findings == []
    counted = rows(database_url, "SELECT DISTINCT split_part(topic, '.', 1) FROM ledger_events")
    assert {"CreditsCharged", "CreditsHeld", "HoldExpired", "AllowanceGranted"} <= {
        kind for (kind,) in counted
    }


def test_a_team_that_somebody_is_changing_is_left_to_them_and_met_again(
    database_url: str, shards: ShardMap
) -> None:
    idle(shards, "acme", "zebra")
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM account_head WHERE team_id = 'acme' FOR UPDATE")
        began = time.monotonic()

        beside = ticked(shards, LATE)

        assert time.monotonic() - began < 1.5, "nobody waits for a lock"
    assert (beside.teams, beside.busy) == (1, 1)
    assert kinds(database_url, "acme")[-1] == "CreditsHeld"
    after = ticked(shards, LATE)
    assert (after.teams, after.busy) == (1, 0)
    assert kinds(database_url, "acme") == kinds(database_url, "zebra")


def test_a_closed_account_grows_old_as_well_and_turns_no_period(database_url: str, shards: ShardMap) -> None:
    idle(shards, "acme", plan=PLAN)
    told(shards, "acme", START + timedelta(minutes=5), close_account)

    ticked(shards, LATE)

    booked = kinds(database_url, "acme")
    closed = booked.index("AccountClosed")
    assert "HoldExpired" in booked
    assert "CreditsExpired" in booked[closed:]
    assert booked.count("AllowanceGranted") == 1


def test_more_teams_than_a_portion_are_all_met(shards: ShardMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_teams, "PORTION_TEAMS", 2)
    idle(shards, *(f"team-{n}" for n in range(40)))

    assert ticked(shards, LATE).teams == 40


def test_nothing_is_due_before_its_instant(shards: ShardMap) -> None:
    idle(shards, "acme")

    assert ticked(shards, START + timedelta(minutes=59)) == Ticked()
    assert ticked(shards, START + timedelta(minutes=60)) == Ticked(teams=1, events=1)


def test_a_team_that_cannot_be_read_is_named_and_the_others_are_ticked_i18(
    database_url: str, shards: ShardMap
) -> None:
    idle(shards, "acme", "zebra")
    _event_of_a_newer_shape(database_url, shards, "acme")

    done = ticked(shards, LATE)

    assert (done.teams, done.failed) == (1, 1)


def test_due_teams_are_found_by_the_index_of_due_instants(database_url: str, shards: ShardMap) -> None:
    idle(shards, "acme")
    with psycopg.connect(database_url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT next_due_at, team_id FROM account_head WHERE shard = 0 AND next_due_at <= now()"
            " AND (next_due_at, team_id) > (now(), 'acme') ORDER BY next_due_at, team_id LIMIT 200"
        ).fetchall()

    lines = [line for (line,) in plan]
    assert any("account_head_due" in line for line in lines), lines
    assert not any("Sort" in line for line in lines), lines


def test_the_loop_ends_after_the_team_in_hand(shards: ShardMap) -> None:
    idle(shards, "acme")
    loop = TickLoop(PostgresLedgerStore(shards, clock=at(LATE)), DueTeams(shards, clock=at(LATE)), 0.05)
    done: list[Ticked] = []
    thread = Thread(target=lambda: done.append(loop.run()))

    thread.start()
    time.sleep(0.5)
    loop.stop()
    thread.join(5)

    assert [(each.teams, each.failed) for each in done] == [(1, 0)]


def test_the_tick_process_ends_cleanly_when_asked_to(
    database_url: str, shards: ShardMap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    idle(shards, "acme")
    monkeypatch.setenv("COFFER_DATABASE_URL", database_url)
    monkeypatch.setenv("COFFER_STATE_DIRECTORY", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli.main", "tick", "--every", "0.2", "-o", "json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "tick_started" in line:
            break

    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=20)

    assert process.returncode == 0
    assert set(json.loads(printed)) == {"teams", "events", "busy", "failed"}


def test_the_command_tells_what_it_booked_and_exits_1_when_a_team_could_not_be_read(
    database_url: str, shards: ShardMap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    idle(shards, "acme", "zebra")
    _event_of_a_newer_shape(database_url, shards, "zebra")
    monkeypatch.setenv("COFFER_DATABASE_URL", database_url)
    monkeypatch.setenv("COFFER_STATE_DIRECTORY", str(tmp_path))

    ran = subprocess.run(
        [sys.executable, "-m", "infra.cli.main", "tick", "-o", "json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    # The story lies in the past of the database's own clock.
    printed = json.loads(ran.stdout)
    assert (ran.returncode, printed["teams"], printed["busy"], printed["failed"]) == (1, 1, 0, 1)
    assert printed["events"] == len(kinds(database_url, "acme")) - 4
    assert "zebra" in ran.stderr


def _event_of_a_newer_shape(database_url: str, shards: ShardMap, team: str) -> None:
    shard, originator, topic = shards.shard_of(team), account_id(team), "CreditsLent.1"
    with psycopg.connect(database_url) as connection:
        head = connection.execute(
            "UPDATE account_head SET version = version + 1, state_schema = 1000 WHERE team_id = %s"
            " RETURNING version, chain_hash",
            (team,),
        ).fetchone()
        position = connection.execute(
            "UPDATE shard_log SET position = position + 1 WHERE shard = %s RETURNING position", (shard,)
        ).fetchone()
        assert head is not None
        assert position is not None
        connection.execute(
            "INSERT INTO ledger_events (shard, originator_id, originator_version, position, topic, state, previous_hash,"
            " hash) VALUES (%s, %s, %s, %s, %s, '{}', %s, %s)",
            (
                shard,
                originator,
                head[0],
                position[0],
                topic,
                head[1],
                event_hash(head[1], originator.bytes, head[0], topic, b"{}"),
            ),
        )
