"""What the batch path promises in memory, it keeps on PostgreSQL: the same stories on the real store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from consumers.batches import MovedHeads, PartitionKey
from domain.account.decision import account_id
from domain.account.events import AccountEvent, RecordedEvent
from domain.account.state import TeamAccount
from domain.commands import CloseAccount, GrantCredits, OpenAccount
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore, PostgresBatchTransaction
from infra.postgres.shards import ShardMap
from tests.consumers.batch_stories import PARTITIONS
from tests.consumers.test_usage_batch import *  # noqa: F403 - every story is told again here
from tests.infra.stored import execute


class Accounts:
    """Each team's account, replayed from what is stored."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def __getitem__(self, team_id: str) -> TeamAccount:
        with LedgerApplication(self._shards, self._shards.shard_of(team_id)) as application:
            return application.account(team_id)


class Events:
    """Each team's events, as they are stored."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def __getitem__(self, team_id: str) -> list[AccountEvent]:
        with LedgerApplication(self._shards, self._shards.shard_of(team_id)) as application:
            stored = application.events.get(account_id(team_id))
            return [each.event for each in stored if isinstance(each, RecordedEvent)]


class Offsets:
    """Each partition's next offset."""

    def __init__(self, store: PostgresBatchStore) -> None:
        self._store = store

    def __getitem__(self, partition: PartitionKey) -> int | None:
        return self._store.next_offset(partition)


class StoriesStore:
    """PostgreSQL's store with the words that the stories use."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self._store = PostgresBatchStore(shards)
        self.accounts, self.events = Accounts(shards), Events(shards)
        self.offsets = Offsets(self._store)
        self.moves = 0

    @contextmanager
    def transaction(self) -> Iterator[PostgresBatchTransaction]:
        with self._store.transaction() as transaction:
            yield transaction
            if self.moves:
                self.moves -= 1
                raise MovedHeads("another writer was first")

    def open(self, team_id: str, granted_micros: int) -> None:
        execute(self._shards, OpenAccount(team_id=team_id))
        execute(self._shards, GrantCredits(team_id=team_id, amount_micros=granted_micros))

    def close(self, team_id: str) -> None:
        execute(self._shards, CloseAccount(team_id=team_id))

    @property
    def batches(self) -> list[object]:
        with self._shards.connection_for(0) as connection:
            return list(connection.execute("SELECT first_offset FROM consumed_batch").fetchall())

    def end(self) -> None:
        self._store.close()
        self._shards.close()


@pytest.fixture  # type: ignore[no-redef]
def store(database_url: str) -> Iterator[StoriesStore]:
    shards = ShardMap(database_url)
    store = StoriesStore(shards)
    store.open("acme", 100_000_000)
    for partition in PARTITIONS:
        store._store.register(partition, 0)
    yield store
    store.end()
