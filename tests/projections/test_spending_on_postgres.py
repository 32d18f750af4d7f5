"""Spending on PostgreSQL: projected batch by batch, resumed, rebuilt and verified, the rows are those of the events."""

from __future__ import annotations

from datetime import date
from functools import partial
from itertools import cycle

import pytest

from domain.account.decision import account_id
from domain.amounts import format_credits
from domain.commands import VoidGrant
from infra.postgres import spending_model
from infra.postgres.read_models import Projector
from infra.postgres.rebuilding import rebuild
from infra.postgres.shards import ShardMap
from infra.postgres.spending_model import PostgresSpending, SpendingModel
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from projections.spending import SpendingRow, history_of, spending_of
from tests.builders import AnAccount
from tests.projections.ledgers import AStoredAccount, ATeam, tamper
from tests.projections.lives import a_life

EVER = date(2000, 1, 1), date(2100, 1, 1)


@pytest.fixture
def lived(shards: ShardMap) -> AnAccount:
    """The account, in memory as in the ledger; its zone changes twice and some of its charges are refunded."""
    return a_life(3, 220, partial(AStoredAccount, shards))


def spent(shards: ShardMap) -> list[SpendingRow]:
    return sorted(PostgresSpending(shards).spent("acme", *EVER).rows)


def expected(shards: ShardMap, lived: AnAccount) -> list[SpendingRow]:
    return sorted(spending_of(enumerate(lived.events, start=1), shards.shard_of("acme"), "acme"))


@pytest.mark.parametrize("limit", [1, 7, 4_000])
def test_i7_spending_is_that_of_the_events_however_it_was_batched_and_by_however_many(
    shards: ShardMap, lived: AnAccount, limit: int
) -> None:
    shard = shards.shard_of("acme")
    with shards.own_connection_for(shard) as connection:
        connection.autocommit = True
        in_turn = cycle([Projector(SpendingModel()) for _ in range(2)])
        while next(in_turn).advance(connection, shard, limit=limit):
            pass

    assert spent(shards) == expected(shards, lived)
    assert any(row.refunded_micros for row in spent(shards))


def test_i5_a_batch_that_was_rolled_back_is_taken_again_and_counted_once(
    shards: ShardMap, lived: AnAccount
) -> None:
    class Interrupted(Exception):
        """The process ended here."""

    shard, projector = shards.shard_of("acme"), Projector(SpendingModel())
    write, projector._write = projector._write, lambda *_: (_ for _ in ()).throw(Interrupted)  # type: ignore[method-assign]
    with shards.own_connection_for(shard) as connection:
        connection.autocommit = True
        with pytest.raises(Interrupted):
            projector.advance(connection, shard, limit=50)
        projector._write = write  # type: ignore[method-assign]
        while projector.advance(connection, shard, limit=50):
            pass

    assert spent(shards) == expected(shards, lived)


def test_j1_a_rebuild_beside_the_live_table_gives_the_same_sums(shards: ShardMap, lived: AnAccount) -> None:
    ProjectorLoop(shards).catch_up()
    before = spent(shards)

    told = rebuild(shards, SpendingModel(), batch_events_max=13)

    assert told.swapped
    assert spent(shards) == before == expected(shards, lived)


def test_i7_verify_names_a_sum_that_was_changed_and_a_row_that_is_missing(
    shards: ShardMap, lived: AnAccount
) -> None:
    ProjectorLoop(shards).catch_up()
    assert verify(shards).findings == []

    tamper(shards, shards.shard_of("acme"), "UPDATE spending_day SET charged_micros = charged_micros + 1")
    [first, *_] = verify(shards).findings
    tamper(shards, shards.shard_of("acme"), "DELETE FROM spending_day")
    [missing, *_] = verify(shards).findings

    assert (first.table, first.team_id) == ("spending_day", "acme")
    assert missing.found == "none"


def test_i7_verify_names_the_first_row_that_was_edited_by_its_day_though_all_sums_still_agree(
    shards: ShardMap, lived: AnAccount
) -> None:
    """Ten credits are moved from one day to a later one: every total is as it was."""
    ProjectorLoop(shards).catch_up()
    shard, rows = shards.shard_of("acme"), expected(shards, lived)
    [earlier, later] = two_days_of_one_use(rows)
    for row, moved in ((earlier, -10_000_000), (later, 10_000_000)):
        tamper(
            shards,
            shard,
            f"UPDATE spending_day SET charged_micros = charged_micros + {moved} WHERE day = '{row.day}' AND action ="
            f" '{row.action}' AND member = '{row.member}' AND project = '{row.project}' AND work = '{row.work}'",
        )

    found, of_team = verify(shards).findings, verify(shards, team_id="acme").findings

    [finding] = found
    assert finding.what == (
        f"{earlier.day} {earlier.action}, member {earlier.member or 'none'}, project {earlier.project or 'none'},"
        f" work {earlier.work or 'none'}"
    )
    charged = [format_credits(earlier.charged_micros + moved) for moved in (0, -10_000_000)]
    assert (f"{charged[0]} charged" in finding.expected, f"{charged[1]} charged" in finding.found) == (
        True,
        True,
    )
    assert of_team == found


def two_days_of_one_use(rows: list[SpendingRow]) -> list[SpendingRow]:
    """Two rows that differ in the day alone."""
    alike: dict[object, list[SpendingRow]] = {}
    for row in rows:
        alike.setdefault(row[3:7], []).append(row)
    return next(days for days in alike.values() if len(days) > 1)[:2]


def test_i7_a_row_of_a_day_on_which_nothing_was_used_is_found(shards: ShardMap, lived: AnAccount) -> None:
    ProjectorLoop(shards).catch_up()
    tamper(
        shards,
        shards.shard_of("acme"),
        "INSERT INTO spending_day SELECT shard, team_id, day - 400, action, member, project, work, uses, waived,"
        " charged_micros, refunded_micros FROM spending_day LIMIT 1",
    )

    [finding] = verify(shards).findings

    assert (finding.table, finding.expected, finding.found.split(" ")[1]) == ("spending_day", "none", "uses,")


def test_i7_a_refund_that_fell_to_a_voided_grant_is_no_difference(shards: ShardMap) -> None:
    """The statement tells what came back to the team, which is nothing; the work cost nothing in the end all the same."""
    account = AStoredAccount(shards)
    account.granted("gift", 25, "2026-11-02 08:00")
    account.used("1", 10, occurred="2026-11-03 08:00")
    lot_id = next(lot_id for lot_id, name in account.names.items() if name == "gift")
    account.asked("2026-11-04 08:00", VoidGrant(team_id="acme", lot_id=lot_id, reason="by mistake"))
    account.refunded("1", 4, "2026-11-05 08:00", "some")
    account.refunded("1", None, "2026-11-06 08:00", "the rest")
    ProjectorLoop(shards).catch_up()

    [row] = spent(shards)

    assert (row.charged_micros, row.refunded_micros) == (10_000_000, 10_000_000)
    assert verify(shards).findings == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_i7_verify_finds_nothing_on_accounts_that_were_left_in_peace(shards: ShardMap, seed: int) -> None:
    a_life(seed, 200, partial(AStoredAccount, shards))
    ProjectorLoop(shards).catch_up()

    assert verify(shards).findings == []


def test_the_sample_is_of_other_teams_of_the_shard_by_whole_days_before(shards: ShardMap) -> None:
    shard = shards.shard_of("acme")
    others = [f"team-{n}" for n in range(60) if shards.shard_of(f"team-{n}") == shard][:3]
    for number, team in enumerate(["acme", *others]):
        ateam = ATeam(shards, team, at=f"2026-11-0{number + 1} 08:00")
        ateam.live(number, 12)
    ProjectorLoop(shards).catch_up()
    since, until = date(2026, 10, 1), date(2026, 11, 6)

    sample = PostgresSpending(shards).sample("acme", since, until)

    wanted = {}
    for team in sorted(others, key=account_id):
        net: dict[date, int] = {}
        for row in PostgresSpending(shards).spent(team, since, until).rows:
            net[row.day] = net.get(row.day, 0) + row.net_micros
        if (history := history_of(team, net, until)) is not None:
            wanted[team] = list(history.days)
    assert {history.team_id: list(history.days) for history in sample} == wanted != {}


def test_days_are_asked_for_with_their_start_included_and_their_end_excluded(
    shards: ShardMap, lived: AnAccount
) -> None:
    ProjectorLoop(shards).catch_up()
    rows = expected(shards, lived)
    day = rows[len(rows) // 2].day

    found = PostgresSpending(shards).spent("acme", day, date.fromordinal(day.toordinal() + 1))

    assert {row.day for row in found.rows} == {day}
    assert found.position > 0
    assert PostgresSpending(shards).spent("nobody", *EVER).rows == []


def test_a_refund_finds_a_charge_whose_event_has_left_for_an_archive_in_the_statement(
    shards: ShardMap, lived: AnAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending_model, "_CHARGES", frozenset({"of no event that is still here"}))

    ProjectorLoop(shards).catch_up()

    assert any(row.refunded_micros for row in spent(shards))
    assert spent(shards) == expected(shards, lived)
