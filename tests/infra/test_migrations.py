"""The tables are what the library and the design say, however often and by however many they are made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import psycopg
import pytest

from infra.postgres.migrations import InstallationMismatch, migrate

EmptyDatabase = Callable[[], AbstractContextManager[str]]


def test_migrating_twice_changes_nothing(empty_database: EmptyDatabase) -> None:
    with empty_database() as url:
        migrate(url, shards=4)
        before = _columns(url)

        migrate(url, shards=4)

        assert _columns(url) == before
        with psycopg.connect(url) as connection:
            logs = connection.execute("SELECT shard, position FROM shard_log ORDER BY shard").fetchall()
        assert logs == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_migrators_that_start_together_wait_for_each_other(empty_database: EmptyDatabase) -> None:
    with empty_database() as url:
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(migrate, url, 2) for _ in range(4)]:
                each.result()

        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT shards FROM installation").fetchall() == [(2,)]


def test_another_number_of_shards_is_refused_for_good(empty_database: EmptyDatabase) -> None:
    with empty_database() as url:
        migrate(url, shards=8)

        with pytest.raises(InstallationMismatch, match="installed with 8 shards"):
            migrate(url, shards=16)

        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM shard_log").fetchone() == (8,)


def _columns(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()
