"""Rows written by newer code stop their own team only, those of older code are read again; nothing is guessed."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator

import psycopg
import pytest

from api.ports import AccountOnFile
from consumers.usage import settle_reads
from domain.account.decision import account_id
from domain.account.state import STATE_SCHEMA
from domain.chain import event_hash
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.consumers.batch_stories import PARTITIONS, a_card, a_read, a_record
from tests.infra.stored import charge, opened, rows, usage


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    store.register(PARTITIONS[0], 0)
    yield store
    store.close()


def test_a_head_of_a_newer_shape_parks_its_own_team_and_the_others_are_charged_i18(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra", granted=10)
    _written_by_newer_code(database_url, shards, "acme", schema=1_000, claim=None)

    settle_reads(store, [a_read(a_record(0, "u1"), a_record(1, "u2", team="zebra"))], a_card())

    assert _parked(database_url) == [(0, "acme", "parked", "unknown_event_shape")]
    assert rows(database_url, "SELECT version FROM account_head WHERE team_id = 'zebra'") == [(3,)]
    assert store.next_offset(PARTITIONS[0]) == 2


def test_a_claim_held_by_an_event_of_a_newer_shape_parks_its_own_team_and_nothing_is_charged_twice_i4(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra", granted=10)
    claim = usage("acme", "u1").usage_key()
    _written_by_newer_code(database_url, shards, "acme", schema=STATE_SCHEMA, claim=claim)

    records = [a_record(0, "u1"), a_record(1, "u2"), a_record(2, "u3", team="zebra")]
    settle_reads(store, [a_read(*records)], a_card())

    assert _parked(database_url) == [
        (0, "acme", "parked", "unknown_event_shape"),
        (1, "acme", "parked", "unknown_event_shape"),
    ]
    assert rows(database_url, "SELECT version FROM account_head ORDER BY team_id") == [(3,), (3,)]


def _parked(database_url: str) -> list[tuple[object, ...]]:
    return rows(database_url, "SELECT kafka_offset, team_id, outcome, reason FROM usage_outcome")


def _written_by_newer_code(
    database_url: str, shards: ShardMap, team_id: str, schema: int, claim: str | None
) -> None:
    """One more event, of a topic that this code does not know, and its head in a state of the schema."""
    shard, originator, topic, state = shards.shard_of(team_id), account_id(team_id), "CreditsLent.1", b"{}"
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "UPDATE shard_log SET position = position + 1 WHERE shard = %s RETURNING position", (shard,)
        ).fetchone()
        head = connection.execute(
            "UPDATE account_head SET version = version + 1, state_schema = %s,"
            " state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, '{version}', to_jsonb(version + 1))::text,"
            " 'UTF8') WHERE team_id = %s RETURNING version, chain_hash",
            (schema, team_id),
        ).fetchone()
        assert row is not None
        assert head is not None
        own = event_hash(head[1], originator.bytes, head[0], topic, state)
        connection.execute(
            "INSERT INTO ledger_events (shard, originator_id, originator_version, position, topic, state, usage_key,"
            " previous_hash, hash) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (shard, originator, head[0], row[0], topic, state, claim, head[1], own),
        )
        connection.execute("UPDATE account_head SET chain_hash = %s WHERE team_id = %s", (own, team_id))


def test_a_head_of_an_older_schema_is_folded_again_without_its_whole_history_in_memory_i24(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    _long_history_of_older_code(database_url, shards, store)
    fresh = PostgresBatchStore(shards)

    tracemalloc.start()
    try:
        with fresh.transaction() as transaction:
            account = transaction.accounts(["acme"])["acme"]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        fresh.close()

    assert (account.version, account.settled_micros) == (2_002, 8_000_000_000)
    assert most < 8_000_000, "the events have 16 MB"


def test_a_reader_folds_a_head_of_an_older_schema_the_same_way_i24(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    _long_history_of_older_code(database_url, shards, store)

    async def read() -> AccountOnFile | None:
        pool = AsyncShards(database_url, shards.count)
        found = await PostgresAccountReads(pool).account("acme")
        await pool.close()
        return found

    tracemalloc.start()
    try:
        found = asyncio.run(read())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found is not None
    assert (found.account.version, found.account.settled_micros) == (2_002, 8_000_000_000)
    assert most < 10_000_000, "the events have 16 MB"


def _long_history_of_older_code(database_url: str, shards: ShardMap, store: PostgresBatchStore) -> None:
    """A team with 16 MB of events, and a head that this code does not read."""
    opened(shards, "acme", granted=10_000)
    for batch in range(4):
        charge(store, [usage("acme", f"u{batch}-{n}", dimensions={"note": "x" * 8_000}) for n in range(500)])
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE account_head SET state_schema = 1, state = '{}'")
