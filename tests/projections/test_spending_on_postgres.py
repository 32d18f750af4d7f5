"""Spending on PostgreSQL: projected batch by batch, resumed, rebuilt and verified, the rows are those of the events."""

from __future__ import annotations

from datetime import date
from functools import partial
from itertools import cycle

import pytest

from infra.postgres import spending_model
from infra.postgres.read_models import Projector
from infra.postgres.rebuilding import rebuild
from infra.postgres.shards import ShardMap
from infra.postgres.spending_model import PostgresSpending, SpendingModel
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from projections.spending import SpendingRow, spending_of
from tests.builders import AnAccount
from tests.projections.ledgers import AStoredAccount, tamper
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
