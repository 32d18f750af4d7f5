"""A life of every command, written to PostgreSQL: projected, rebuilt, verified and replayed as it was lived."""

from __future__ import annotations

from functools import partial
from itertools import cycle

import msgspec
import pytest

from domain.account.decision import copy_of
from infra.postgres.histories import PostgresEvents
from infra.postgres.read_models import PostgresStatement, Projector, StatementModel
from infra.postgres.rebuilding import rebuild
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from projections.moves import Sums
from projections.replay import Replay
from projections.statement import EVERYTHING, StatementFilter, StatementRow
from tests.builders import AnAccount
from tests.projections.ledgers import AStoredAccount, tamper
from tests.projections.lives import a_life
from tests.projections.streams import rows_of_stream

STEPS = 220


@pytest.fixture
def lived(shards: ShardMap) -> AnAccount:
    """The account, in memory as in the ledger."""
    return a_life(3, STEPS, partial(AStoredAccount, shards))


def viewed(shards: ShardMap, asked: StatementFilter = EVERYTHING) -> list[StatementRow]:
    page = PostgresStatement(shards).page("acme", asked=asked, limit=1_000, newest_first=False)
    return page.rows


@pytest.mark.parametrize("projectors", [1, 2])
def test_i7_the_projected_statement_is_that_of_the_events_batch_by_batch(
    shards: ShardMap, lived: AnAccount, projectors: int
) -> None:
    """Batches of one: what is held after a row comes from what a projector remembers, or from the table where another wrote."""
    shard = shards.shard_of("acme")
    with shards.own_connection_for(shard) as connection:
        connection.autocommit = True
        in_turn = cycle([Projector(StatementModel()) for _ in range(projectors)])
        while next(in_turn).advance(connection, shard, limit=1):
            pass

    rows = rows_of_stream(lived.events, shard=shard)
    assert viewed(shards) == rows
    held = next(row.hold_id for row in rows if row.kind == "CreditsHeld")
    assert viewed(shards, StatementFilter(hold_id=held)) == [row for row in rows if row.hold_id == held]


def test_j1_a_rebuild_beside_the_live_statement_gives_the_same_rows(
    shards: ShardMap, lived: AnAccount
) -> None:
    ProjectorLoop(shards).catch_up()
    before = viewed(shards)

    told = rebuild(shards, StatementModel(), batch_events_max=7)

    assert told.swapped
    assert viewed(shards) == before == rows_of_stream(lived.events, shard=shards.shard_of("acme"))


def test_verify_finds_nothing_in_a_whole_life_and_names_what_is_changed(
    shards: ShardMap, lived: AnAccount
) -> None:
    ProjectorLoop(shards).catch_up()
    assert verify(shards).findings == []
    row = next(row for row in viewed(shards) if row.kind == "HoldExpired")
    tamper(
        shards, row.shard,
        "UPDATE statement_entry SET held_after_micros = held_after_micros + 1 WHERE team_id = 'acme' AND version = %s",
        row.version,
    )  # fmt: skip

    (finding,) = verify(shards).findings

    assert (finding.table, finding.version, finding.what) == (
        "statement_entry",
        row.version,
        "held_after_micros",
    )


def test_verify_names_a_head_whose_hold_was_edited(shards: ShardMap) -> None:
    lived = AStoredAccount(shards)
    lived.granted("G", 10, "2026-11-01 00:00")
    lived.held(5, "2026-11-01 00:00", member="zoe")
    ProjectorLoop(shards).catch_up()
    edited = copy_of(lived.account)
    edited.holds[-1].member = "mira"
    tamper(
        shards, shards.shard_of("acme"),
        "UPDATE account_head SET state = %s WHERE team_id = 'acme'", msgspec.json.encode(edited),
    )  # fmt: skip

    (finding,) = verify(shards).findings

    assert (finding.table, finding.what) == ("account_head", "state.holds")


def test_i9_a_replay_of_the_stored_stream_is_the_account_as_it_was_lived(
    shards: ShardMap, lived: AnAccount
) -> None:
    replay = Replay(keeps_index=False)
    for recorded in PostgresEvents(shards).events("acme"):
        replay.play(recorded)

    account = replay.account
    assert account == lived.account
    assert replay.sums == Sums(
        account.settled_micros, account.debt_micros, sum(hold.held_micros for hold in account.holds)
    )
