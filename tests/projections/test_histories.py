"""A replay from the stored stream is the account that the head holds."""

from __future__ import annotations

import pytest

from infra.postgres import histories
from infra.postgres.heads import load_heads
from infra.postgres.histories import PostgresEvents
from infra.postgres.shards import ShardMap
from infra.project import ProjectorLoop
from projections.replay import account_at_version, steps
from tests.projections.ledgers import a_ledger
from tests.projections.test_projector import viewed_rows


@pytest.mark.parametrize(("portion", "chunk"), [(1, 1), (7, 3), (10_000, 200)])
def test_i9_replaying_the_stored_stream_gives_the_head(
    shards: ShardMap, monkeypatch: pytest.MonkeyPatch, portion: int, chunk: int
) -> None:
    monkeypatch.setattr(histories, "PORTION_ROWS", portion)
    monkeypatch.setattr(histories, "CHUNK_ROWS", chunk)
    teams = a_ledger(shards, teams=["acme", "beta"], steps=20)
    source = PostgresEvents(shards)

    for team_id, team in teams.items():
        shard = shards.shard_of(team_id)
        with shards.own_connection_for(shard) as connection, connection.cursor() as cursor:
            head = load_heads(cursor, shard, [team_id], lock=False)[team_id]

        assert account_at_version(source, team_id, team.version) == head.account


def test_steps_and_statement_tell_the_same_sums(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=25)
    ProjectorLoop(shards).catch_up()
    sums = {
        step.version: (step.settled_after_micros, step.debt_after_micros)
        for step in steps(PostgresEvents(shards).events("acme"))
    }

    rows = viewed_rows(shards, "acme")

    assert rows
    assert all(sums[row.version] == (row.settled_after_micros, row.debt_after_micros) for row in rows)


def test_a_part_of_a_stream_can_be_read(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=10)

    versions = [
        recorded.originator_version for recorded in PostgresEvents(shards).events("acme", after=3, until=7)
    ]

    assert versions == [4, 5, 6, 7]
    assert list(PostgresEvents(shards).events("nobody")) == []


def test_a_reading_that_is_given_up_leaves_its_connection_fit_for_the_next(
    shards: ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "CHUNK_ROWS", 2)
    a_ledger(shards, teams=["acme"], steps=30)
    source = PostgresEvents(shards)

    for _ in range(30):  # more than there are connections
        reading = source.events("acme")
        assert next(reading).originator_version == 1
        reading.close()  # type: ignore[attr-defined]

    assert [each.originator_version for each in source.events("acme", until=5)] == [1, 2, 3, 4, 5]
