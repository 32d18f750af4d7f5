"""Two teams of one shard: nothing of the one can be reached through the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.commands import RefundCharge
from domain.errors import UnknownCharge
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.infra.stored import charge, execute, opened, rows, usage

HEADS = "SELECT team_id, version, state FROM account_head ORDER BY team_id"


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


def test_a_charge_of_another_team_of_the_same_shard_cannot_be_refunded_i16(
    database_url: str, shards: ShardMap
) -> None:
    neighbour = _neighbour(shards, "acme")
    opened(shards, "acme", neighbour)
    store = PostgresBatchStore(shards)
    charge(store, [usage("acme", "u1", units=9)])
    store.close()
    before = rows(database_url, HEADS)

    with pytest.raises(UnknownCharge):
        execute(shards, RefundCharge(team_id=neighbour, charge_id=usage("acme", "u1").usage_key()))

    assert rows(database_url, HEADS) == before


def _neighbour(shards: ShardMap, team_id: str) -> str:
    """Another team of the same shard."""
    names = (f"team-{n}" for n in range(10_000))
    return next(name for name in names if shards.shard_of(name) == shards.shard_of(team_id))
