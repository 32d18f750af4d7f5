"""A worker that froze inside a transaction is found whatever the server was waiting for, and nobody else is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from time import sleep
from typing import TypeAlias

import psycopg
import pytest
from psycopg.rows import TupleRow

from domain.commands import GrantCredits
from domain.errors import Busy
from infra.postgres.appending import COPY_EVENTS
from infra.postgres.connections import FIRST, Timeouts
from infra.postgres.frozen import WORKER, end_frozen_workers
from infra.postgres.shards import ShardMap
from tests.infra.stored import execute, opened

Connection: TypeAlias = "psycopg.Connection[TupleRow]"


@pytest.fixture
def workers(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(
        database_url, application_name=WORKER, timeouts=Timeouts(idle_in_transaction_milliseconds=600_000)
    )
    opened(shards, "acme")
    yield shards
    shards.close()


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url, timeouts=Timeouts(lock_milliseconds=1_000))
    yield shards
    shards.close()


def locked(connection: Connection) -> None:
    connection.execute("SELECT 1 FROM account_head WHERE team_id = 'acme' FOR UPDATE")


def in_copy(connection: Connection) -> None:
    """The server waits for the next row, and would for ever."""
    locked(connection)
    connection.pgconn.exec_(COPY_EVENTS.encode())


def in_pipeline(connection: Connection) -> None:
    """The server has answered, and waits for what follows of the same exchange."""
    connection.pgconn.enter_pipeline_mode()
    connection.pgconn.send_query_params(b"BEGIN", None)
    connection.pgconn.send_query_params(b"SELECT 1 FROM account_head WHERE team_id = 'acme' FOR UPDATE", None)
    connection.pgconn.send_flush_request()
    connection.pgconn.flush()


@pytest.mark.parametrize("freeze", [locked, in_copy, in_pipeline])
def test_a_frozen_worker_gives_its_locks_back(
    workers: ShardMap, shards: ShardMap, freeze: Callable[[Connection], None]
) -> None:
    frozen = workers.own_connection_to(FIRST)
    freeze(frozen)
    sleep(0.6)
    with pytest.raises(Busy):
        execute(shards, GrantCredits(team_id="acme", amount_micros=1))

    assert end_frozen_workers(shards, shards.databases, 500) == 1

    execute(shards, GrantCredits(team_id="acme", amount_micros=1))
    assert end_frozen_workers(shards, shards.databases, 500) == 0
    frozen.close()


def test_who_works_or_is_no_worker_is_left_alone(workers: ShardMap, shards: ShardMap) -> None:
    with workers.own_connection_to(FIRST) as busy, shards.own_connection_to(FIRST) as other:
        locked(other)
        works = Thread(target=busy.execute, args=["SELECT pg_sleep(1.5)"])
        works.start()
        sleep(0.7)

        assert end_frozen_workers(shards, shards.databases, 500) == 0

        works.join()
        assert busy.execute("SELECT 1").fetchone() == (1,)
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_a_command_that_waited_in_vain_looks_for_one(
    workers: ShardMap, shards: ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an account is free again though no other worker needs it."""
    monkeypatch.setattr(end_frozen_workers, "__defaults__", (500,))
    frozen = workers.own_connection_to(FIRST)
    in_copy(frozen)
    with pytest.raises(Busy):
        execute(shards, GrantCredits(team_id="acme", amount_micros=1))

    execute(shards, GrantCredits(team_id="acme", amount_micros=1))

    frozen.close()
