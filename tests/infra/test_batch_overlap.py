"""A batch is decided while the server commits the one before: whatever becomes of that one, nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from consumers.batches import MovedHeads
from domain.account.state import TeamAccount
from domain.commands import GrantCredits
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import CAREFUL_BATCHES, EarlierBatchLost, PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.infra.proxy import COMMIT, proxied
from tests.infra.stored import PARTITION, advance, charge, execute, opened, rows, usage

# The COMMIT itself says no, once: as when another transaction was first in what only the end can see.
REFUSE_COMMIT = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF nextval('refusals') = 1 THEN RAISE 'refused' USING ERRCODE = 'serialization_failure'; END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON ledger_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    opened(shards, "acme", "zebra")
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    store.register(PARTITION, 0)
    known(store)
    yield store
    store.close()


def known(store: PostgresBatchStore) -> None:
    """The accounts are kept, and claims are expected to be new: a batch needs no question any more."""
    charge(store, [usage("acme", "first"), usage("zebra", "first")])
    for _ in range(CAREFUL_BATCHES):
        charge(store, [])
    assert not store.is_careful


def refuse_next_commit(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(REFUSE_COMMIT)


def account(shards: ShardMap, team: str = "acme") -> TeamAccount:
    with LedgerApplication(shards, shards.shard_of(team)) as application:
        return application.account(team)


def positions_without_gap(database_url: str) -> bool:
    gaps = rows(
        database_url,
        "SELECT shard FROM ledger_events GROUP BY shard HAVING max(position) <> count(*) OR min(position) <> 1",
    )
    return gaps == []


def test_a_batch_is_decided_on_what_the_one_before_will_have_written(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    for at in range(5):
        charge(
            store,
            [usage("acme", f"a{at}"), usage("zebra", f"z{at}")],
            left=True,
            advances=[advance(at, at + 1)],
        )
        assert store.has_left

    store.confirm()

    assert not store.has_left
    assert store.next_offset(PARTITION) == 5
    assert account(shards).settled_micros == account(shards, "zebra").settled_micros == 994_000_000
    assert positions_without_gap(database_url)


def test_a_batch_that_could_not_be_committed_takes_the_one_decided_on_it_with_it_i15(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    refuse_next_commit(database_url)
    first, second = [usage("acme", "u1")], [usage("acme", "u2"), usage("zebra", "u3")]
    charge(store, first, left=True, advances=[advance(0, 1)])

    with pytest.raises(EarlierBatchLost):
        charge(store, second, left=True, advances=[advance(1, 3)])

    assert rows(database_url, "SELECT next_offset FROM consumed") == [(0,)]
    assert account(shards).version == 3
    charge(store, first, advances=[advance(0, 1)])
    charge(store, second, left=True, advances=[advance(1, 3)])
    store.confirm()
    assert rows(database_url, "SELECT next_offset FROM consumed") == [(3,)]
    assert account(shards).settled_micros == 997_000_000
    assert positions_without_gap(database_url)


def test_the_last_batch_says_that_it_was_lost_when_it_is_asked_i5(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    refuse_next_commit(database_url)
    charge(store, [usage("acme", "u1")], left=True, advances=[advance(0, 1)])

    with pytest.raises(EarlierBatchLost):
        store.confirm()

    charge(store, [usage("acme", "u1")], advances=[advance(0, 1)])
    assert account(shards).settled_micros == 998_000_000


def test_a_lost_answer_is_settled_while_the_next_batch_is_already_decided_i4(
    database_url: str, shards: ShardMap
) -> None:
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        known(store)
        proxy.cut_after(COMMIT)
        charge(store, [usage("acme", "u0")], left=True, advances=[advance(0, 1)])

        charge(store, [usage("acme", "u1")], left=True, advances=[advance(1, 2)])
        store.confirm()

        assert proxy.cuts == 1
        store.close()
        away.close()
    assert rows(database_url, "SELECT next_offset FROM consumed") == [(2,)]
    assert account(shards).settled_micros == 997_000_000


def test_a_commit_that_never_arrived_stops_the_batch_behind_it_i5(
    database_url: str, shards: ShardMap
) -> None:
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        known(store)
        proxy.cut_before(COMMIT)
        charge(store, [usage("acme", "u0")], left=True, advances=[advance(0, 1)])

        with pytest.raises((Busy, OutcomeUnknown)):
            charge(store, [usage("acme", "u1")], left=True, advances=[advance(1, 2)])
        for at in (0, 1):
            charge(store, [usage("acme", f"u{at}")], left=True, advances=[advance(at, at + 1)])
        store.confirm()

        store.close()
        away.close()
    assert account(shards).settled_micros == 997_000_000
    assert positions_without_gap(database_url)


def test_a_duplicate_of_the_batch_on_its_way_is_not_charged_i4(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    charge(store, [usage("acme", "u1")], left=True, advances=[advance(0, 1)])

    charge(store, [usage("acme", "u1"), usage("acme", "u2")], left=True, advances=[advance(1, 3)])
    store.confirm()

    assert account(shards).settled_micros == 997_000_000


def test_a_duplicate_of_what_another_worker_wrote_is_found_before_anything_is_written_i4(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    """The worker knows nothing of it, and expects it to be new."""
    record = usage("zebra", "elsewhere")
    other = PostgresBatchStore(shards)
    charge(other, [record])
    other.close()

    with pytest.raises(MovedHeads, match="expected to be new"):
        charge(store, [record, usage("acme", "u1")])
    charge(store, [record, usage("acme", "u1")])

    assert account(shards, "zebra").settled_micros == 998_000_000
    assert account(shards).settled_micros == 998_000_000


def test_a_head_that_a_command_moved_behind_a_batch_on_its_way_is_decided_again(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    charge(store, [usage("acme", "u1")], left=True)
    store.confirm()
    execute(shards, GrantCredits(team_id="acme", amount_micros=5_000_000))

    with pytest.raises(MovedHeads, match="heads had moved"):
        charge(store, [usage("acme", "u2")], left=True)
    charge(store, [usage("acme", "u2")], left=True)
    store.confirm()

    assert account(shards).settled_micros == 1_002_000_000


def test_a_batch_on_its_way_holds_up_no_question(shards: ShardMap, store: PostgresBatchStore) -> None:
    charge(store, [usage("acme", "u1")], left=True, advances=[advance(0, 1)])

    assert store.next_offset(PARTITION) == 1


def test_a_worker_among_duplicates_it_cannot_know_asks_for_every_claim_and_decides_once(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    other = PostgresBatchStore(shards)
    charge(other, [usage("zebra", f"z{n}") for n in range(3 * CAREFUL_BATCHES)])
    other.close()
    with pytest.raises(MovedHeads):
        charge(store, [usage("zebra", "z0")])

    for n in range(3 * CAREFUL_BATCHES):
        charge(store, [usage("zebra", f"z{n}"), usage("acme", f"a{n}")])
        assert store.is_careful

    assert account(shards, "zebra").settled_micros == (1_000 - 1 - 3 * CAREFUL_BATCHES) * 1_000_000
    assert account(shards).settled_micros == (1_000 - 1 - 3 * CAREFUL_BATCHES) * 1_000_000
