"""A batch is one transaction: heads and offsets by compare-and-set, nothing twice, nothing half."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consumers.batches import Fenced, MovedHeads
from domain.ledger import GrantCredits
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.infra.stored import PARTITION, advance, charge, execute, opened, rows, usage


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    yield store
    store.close()


def test_a_batch_moves_heads_log_and_offset_together(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra")
    store.register(PARTITION, 0)

    charge(store, [usage("acme", "u1"), usage("zebra", "u2"), usage("acme", "u3")], advances=[advance(0, 3)])

    heads = rows(database_url, "SELECT team_id, version FROM account_head ORDER BY team_id")
    assert heads == [("acme", 4), ("zebra", 3)]
    assert store.next_offset(PARTITION) == 3
    batches = rows(
        database_url, "SELECT first_offset, next_offset, records, outcomes, positions FROM consumed_batch"
    )
    assert batches[0][:4] == (0, 3, 3, {"charged": {"": 3}})
    assert sum(last - first + 1 for first, last in batches[0][4].values()) == 3
    balance = rows(
        database_url, "SELECT settled_micros, debt_micros FROM account_balance WHERE team_id = 'acme'"
    )
    assert balance == [(998_000_000, 0)]


def test_a_head_moved_by_a_command_makes_the_batch_decide_again(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra")
    charge(store, [usage("acme", "u1"), usage("zebra", "u2")])  # both are cached now
    execute(shards, GrantCredits(team_id="acme", amount_micros=5_000_000))

    with pytest.raises(MovedHeads):
        charge(store, [usage("acme", "u3"), usage("zebra", "u4")])
    charge(store, [usage("acme", "u3"), usage("zebra", "u4")])

    balances = rows(database_url, "SELECT team_id, version, settled_micros FROM account_balance ORDER BY 1")
    assert balances == [("acme", 5, 1_003_000_000), ("zebra", 4, 998_000_000)]


def test_a_worker_that_lost_its_partition_writes_nothing_i17(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    store.register(PARTITION, 0)
    other = PostgresBatchStore(shards)
    charge(other, [usage("acme", "u1")], advances=[advance(0, 1)])
    other.close()

    with pytest.raises(Fenced):
        charge(store, [usage("acme", "u9")], advances=[advance(0, 1)])

    assert rows(database_url, "SELECT version FROM account_head") == [(3,)]
    assert store.next_offset(PARTITION) == 1
