"""A ledger's shards for tests of read models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.postgres.shards import ShardMap


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """The shards of a fresh database."""
    opened = ShardMap(database_url, application_name="coffer tests")
    yield opened
    opened.close()
